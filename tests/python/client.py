"""An independent client: one training or inference job on a worker, in the Python dialect.

Prints every text that the worker sends. Exit codes: 0 the job succeeded and its file is in
--output; 3 the server refused; 4 no worker; 5 the worker is busy; 6 the job failed; 7 the
connection ended too early.
"""

import asyncio
import json
import os
import sys
import zipfile

import peer
from peer import say

CHUNK = 65_536
JOB_LIMIT_S = 80
FAILED = (
    "TRAIN_JOB_ERROR::",
    "INFERENCE_JOB_ERROR::",
    "INFERENCE_ERROR::",
    "PATH_ERROR::",
    "JOB_FAILED::",
)


def parse():
    parser = peer.options(__doc__)
    parser.add_argument("--session-string")
    parser.add_argument("--worker-id")
    parser.add_argument("--job", choices=["train", "track"], required=True)
    parser.add_argument("--package")
    parser.add_argument("--output", required=True, help="where the result goes")
    parser.add_argument("--gui", action="store_true", help="ask for progress reports")
    parser.add_argument("--stop", action="store_true", help="stop once an epoch is over")
    parser.add_argument("--shared-input", help="a path on shared storage instead of a package")
    parser.add_argument("--shared-output")
    # What a hostile client would say.
    parser.add_argument("--announce", help="the package's name as announced")
    parser.add_argument("--announce-size", type=int)
    parser.add_argument("--cancel", action="store_true", help="cancel as soon as training starts")
    parser.add_argument("--output-dir", default=None)
    return parser.parse_args()


def introduction(job):
    """What a client says of itself: the old inference client said nothing."""
    if job == "track":
        return {}
    properties = {"sleap_version": "1.6.6", "platform": "linux", "user_id": "python"}
    tags = ["sleap-rtc", "training-client"]
    return {"role": "client", "metadata": {"tags": tags, "properties": properties}}


async def choose(signaling):
    """The first available worker of the room."""
    tags, properties = ["training-worker"], {"status": "available"}
    filters = {"role": "worker", "tags": tags, "properties": properties}
    await signaling.send(
        type="discover_peers", from_peer_id=signaling.peer_id, filters=filters
    )
    workers = (await signaling.receive("peer_list"))["peers"]
    if not workers:
        say("no worker")
        sys.exit(4)
    return workers[0]["peer_id"]


async def submit(channel, args):
    """Says what the job is and sends the package."""
    if args.shared_input:
        channel.send(f"FILE_META::{os.path.basename(args.shared_input)}:0:False")
        channel.send("JOB_ID::job_python")
        channel.send(f"SHARED_INPUT_PATH::{args.shared_input}")
        channel.send(f"SHARED_OUTPUT_PATH::{args.shared_output}")
        channel.send("SHARED_STORAGE_JOB::start")
        return
    channel.send(f"PACKAGE_TYPE::{args.job}")
    default = "models" if args.job == "train" else "."
    channel.send(f"OUTPUT_DIR::{args.output_dir or default}")
    name = args.announce or os.path.basename(args.package)
    size = args.announce_size or os.path.getsize(args.package)
    gui = str(args.gui) if args.job == "train" else "false"
    meta, midway = f"FILE_META::{name}:{size}:{gui}", peer.stage(args, "package")
    await peer.send_file(channel, args.package, meta, CHUNK, midway)


class Job:
    """What came from the worker so far."""

    def __init__(self, args, channel):
        self.args, self.channel = args, channel
        self.file, self.received, self.done = None, [], False
        self.code = asyncio.get_running_loop().create_future()
        self.started = asyncio.Event()

    def on_message(self, message):
        if isinstance(message, bytes):
            if message != b"KEEP_ALIVE" and self.file:
                self.file.push(message)
                peer.vanish(self.args, "result")
            return
        say("<", message.rstrip("\n"))
        line_break = "\n" in message or "\r" in message
        if message.startswith("TRAIN_JOB_START::"):
            self.started.set()
        if message.startswith("PROGRESS_REPORT::") and self.args.stop:
            report = json.loads(message.removeprefix("PROGRESS_REPORT::"))
            if report["event"] == "epoch_end":
                self.channel.send('ZMQ_CTRL::{"command":"stop"}')
        if message.startswith(FAILED) and not line_break:
            self.end(6)
        elif message.startswith("FILE_META::") and not line_break:
            self.file = peer.IncomingFile(message, self.args.output)
        elif message == "END_OF_FILE" and self.file:
            self.received.append(self.file.finish())
            self.file = None
        elif message in ("TRAINING_JOBS_DONE", "INFERENCE_JOBS_DONE"):
            self.done = True
        elif message.startswith("JOB_COMPLETE::"):
            self.end(0)
        if self.done and self.received:
            self.end(0)

    def end(self, code):
        if not self.code.done():
            self.code.set_result(code)


async def main(args):
    identity = peer.post(args.http, "/anonymous-signin")
    worker = args.worker_id
    if args.session_string:
        args.room_id, args.token, worker = peer.read_session_string(args.session_string)
    signaling = await peer.Signaling.register(
        args.ws, identity, args.room_id, args.token, **introduction(args.job)
    )
    worker = worker or await choose(signaling)
    pc = peer.connection()
    channel = pc.createDataChannel(peer.CHANNEL)
    job = Job(args, channel)
    channel.on("message", job.on_message)
    channel.on("close", lambda: job.end(7))

    @pc.on("connectionstatechange")
    def on_state():
        if pc.connectionState in ("failed", "closed"):
            job.end(7)

    opened = asyncio.Event()
    channel.on("open", opened.set)
    await pc.setLocalDescription(await pc.createOffer())
    local = pc.localDescription
    await signaling.send(type=local.type, sender=signaling.peer_id, target=worker, sdp=local.sdp)
    await peer.stage(args, "offer")
    await pc.setRemoteDescription(peer.description(await signaling.receive("answer")))
    await asyncio.wait_for(opened.wait(), 20)
    await peer.stage(args, "open")
    sending = asyncio.create_task(submit(channel, args))
    if "run" in (args.vanish, args.silent):
        await asyncio.wait_for(job.started.wait(), JOB_LIMIT_S)
        await peer.stage(args, "run")
    if args.cancel:
        await asyncio.wait_for(job.started.wait(), JOB_LIMIT_S)
        cancel = {"app_message_type": "job_cancel", "job_id": "job_python", "reason": "enough"}
        own = signaling.peer_id
        await signaling.send(
            type="peer_message", from_peer_id=own, to_peer_id=worker, payload=cancel
        )
    code = await asyncio.wait_for(job.code, JOB_LIMIT_S)
    sending.cancel()
    for path in job.received:
        say("RECEIVED", path, os.path.getsize(path))
        if path.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(args.output)
    await peer.stage(args, "result")
    await pc.close()
    await signaling.socket.close()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
