#!/usr/bin/env python3
"""Draw what a model learned: a frame with its labels and predictions, and the loss curve.

usage: picture.py LABELS.slp PREDICTIONS.slp TRAINING_LOG.csv PICTURE.png

Runs in the environment of sleap-nn. Prints three numbers: how many labelled points have a
prediction, how many labelled points there are, and the mean distance between the two in pixels.
"""
import csv
import sys

import matplotlib

matplotlib.use("Agg")  # No display is needed.
import matplotlib.pyplot as plt
import numpy as np
import sleap_io


def points(labels):
    """The points of each frame's first animal, by frame number; NaN where one is missing."""
    return {
        frame.frame_idx: frame.instances[0].numpy()[:, :2]
        for frame in labels
        if frame.instances
    }


def losses(log):
    """For each name of a loss: epochs and values. The log leaves cells empty."""
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    for column, name in ("train/loss", "training"), ("val/loss", "validation"):
        cells = [(int(row["epoch"]), float(row[column])) for row in rows if row[column]]
        yield name, *zip(*cells)


labels_path, predictions_path, log, picture = sys.argv[1:]
labels = sleap_io.load_slp(labels_path)
labelled = points(labels)
predicted = points(sleap_io.load_slp(predictions_path))
missing = np.full_like(next(iter(labelled.values())), np.nan)
distances = np.concatenate(
    [
        np.linalg.norm(animal - predicted.get(frame, missing), axis=1)
        for frame, animal in labelled.items()
    ]
)
found = int(np.isfinite(distances).sum())
mean = float(np.nanmean(distances)) if found else float("nan")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), dpi=110, layout="constrained")
shown = labels[0]
left.imshow(np.squeeze(shown.image), cmap="gray")
for animals, style in (
    (labelled, dict(s=260, color="#4cc9f0", facecolors="none", linewidths=2, label="label")),
    (predicted, dict(s=120, color="#ff4d6d", marker="+", linewidths=2, label="prediction")),
):
    if shown.frame_idx in animals:
        for edge in labels.skeleton.edge_inds:
            left.plot(*animals[shown.frame_idx][list(edge)].T, c=style["color"], linewidth=1)
        left.scatter(*animals[shown.frame_idx].T, **style)
left.set_title(f"{found} of {len(distances)} points found, {mean:.2f} px from the labels on average")
left.legend(loc="upper right")
left.axis("off")
for name, epochs, values in losses(log):
    right.plot(epochs, values, marker="o", label=name)
right.set(title="Training", xlabel="epoch", ylabel="loss", yscale="log")
right.xaxis.get_major_locator().set_params(integer=True)
right.grid(alpha=0.3)
right.legend()
figure.savefig(picture)
print(found, len(distances), f"{mean:.3f}")
