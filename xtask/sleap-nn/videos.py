"""Creates two videos of the same name with labels of both, or lists the videos of labels. Needs sleap-io.

usage: videos.py make DIR        writes DIR/day1/mouse.mp4, DIR/day2/mouse.mp4 and DIR/labels.slp
       videos.py names FILE      prints the video of each frame in FILE, and the number of the frame
"""
import pathlib
import sys

import cv2
import numpy as np
import sleap_io as sio

SIDE, FRAMES = 96, 8


def video(path):
    """A bright spot that moves along the diagonal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (SIDE, SIDE))
    for frame in range(FRAMES):
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        cv2.circle(image, place(frame), 5, (255, 255, 255), -1)
        writer.write(image)
    writer.release()


def place(frame):
    return (20 + 6 * frame, 20 + 6 * frame)


def make(folder):
    paths = [folder / day / "mouse.mp4" for day in ("day1", "day2")]
    for path in paths:
        video(path)
    videos = [sio.load_video(str(path)) for path in paths]
    skeleton = sio.Skeleton(["a", "b"], edges=[("a", "b")])
    frames = []
    for each in videos:
        for frame in range(FRAMES):
            x, y = place(frame)
            points = np.array([[x, y], [x + 8, y]], float)
            instance = sio.Instance.from_numpy(points, skeleton=skeleton)
            frames.append(sio.LabeledFrame(video=each, frame_idx=frame, instances=[instance]))
    labels = sio.Labels(frames, videos=videos, skeletons=[skeleton])
    labels.save(str(folder / "labels.slp"))


def names(path):
    labels = sio.load_slp(path, open_videos=False)
    for frame in labels:
        print(frame.video.filename, frame.frame_idx)
    for each in labels.videos:
        print(each.filename, "-")


if __name__ == "__main__":
    task, argument = sys.argv[1:]
    make(pathlib.Path(argument)) if task == "make" else names(argument)
