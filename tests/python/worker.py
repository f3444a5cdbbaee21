"""An independent worker: one job at a time in the Python dialect, with the `sleap-nn` on PATH.

Prints the same block of credentials as the Rust worker and serves until it is ended.
"""

import asyncio
import os
import re
import shutil
import tempfile
import zipfile

import peer
import zmq
import zmq.asyncio
from peer import say

CHUNK = 32_768
TAGS = ["sleap-rtc", "training-worker", "inference-worker"]
PROPERTIES = {
    "gpu_memory_mb": 12_000,
    "gpu_model": "Python GPU",
    "sleap_version": "0.3.5",
    "cuda_version": "12.4",
    "hostname": "python",
    "status": "available",
    "max_concurrent_jobs": 1,
    "supported_models": ["base", "centroid", "topdown"],
    "supported_job_types": ["training", "inference"],
}


def parse():
    parser = peer.options(__doc__)
    parser.add_argument("--result-name", help="what a hostile worker would call its result")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for the trainer")
    parser.add_argument("--shared-root", help="the shared storage, as this worker sees it")
    parser.add_argument(
        "--sends-predictions", action="store_true",
        help="as the protocol has it, and as no real one ever did",
    )
    parser.add_argument("--no-association", action="store_true", help="SCTP never starts")
    parser.add_argument("--secret", action="store_true", help="ask each client for one, as 0.0.7 does")
    parser.add_argument(
        "--named-folder-only", action="store_true",
        help="as the first version did: look only in a folder with the zip's name",
    )
    return parser.parse_args()


class Job:
    """One data channel: a package comes (or its place on shared storage), its script runs, a
    result goes."""

    def __init__(self, channel, args):
        self.channel, self.args, self.kind, self.file = channel, args, "train", None
        self.folder = tempfile.mkdtemp(prefix="python-worker-", dir=os.getcwd())
        self.task = self.control = None
        self.gui, self.ports, self.shared = False, [], {}
        channel.on("message", self.on_message)
        if args.secret:
            channel.send("AUTH_CHALLENGE::0123456789abcdef")

    def on_message(self, message):
        if self.args.secret:
            return
        if isinstance(message, bytes):
            if message != b"KEEP_ALIVE" and self.file:
                self.file.push(message)
                peer.vanish(self.args, "package")
            return
        say("<", message)
        if message.startswith("PACKAGE_TYPE::"):
            self.kind = message.partition("::")[2]
        elif message.startswith("FILE_META::"):
            self.file = peer.IncomingFile(message, self.folder)
            self.gui = self.file.rest == "True"
        elif message.startswith(("SHARED_INPUT_PATH::", "SHARED_OUTPUT_PATH::", "JOB_ID::")):
            key, _, value = message.partition("::")
            self.shared[key] = value
        elif message == "SHARED_STORAGE_JOB::start":
            self.task = asyncio.create_task(self.run_shared())
        elif message.startswith("ZMQ_CTRL::") and self.control:
            self.control.send_string(message.removeprefix("ZMQ_CTRL::"))
        elif message == "END_OF_FILE" and self.file:
            package = self.file.finish()
            self.task = asyncio.create_task(self.run(package))

    async def run_shared(self):
        """Works on a package where it lies, and puts the models where it is told."""
        root, places = self.args.shared_root, []
        for key, which in (("SHARED_INPUT_PATH", "input"), ("SHARED_OUTPUT_PATH", "output")):
            if not root:
                self.channel.send("PATH_ERROR::this worker has no shared storage")
                return
            place = os.path.realpath(os.path.join(root, self.shared[key]))
            if not place.startswith(os.path.realpath(root) + os.sep):
                self.channel.send(f"PATH_ERROR::{which} is outside of the shared storage")
                return
            places.append(place)
            self.channel.send(f"PATH_VALIDATED::{which}")
        source, output = places
        work = os.path.join(self.folder, "work")
        if os.path.isdir(source):
            shutil.copytree(source, work)
        else:
            shutil.unpack_archive(source, work)
        job, where = self.shared["JOB_ID"], self.shared["SHARED_OUTPUT_PATH"]
        if await self.train_all(work) == 0:
            if os.path.isdir(os.path.join(work, "models")):
                shutil.copytree(os.path.join(work, "models"), output, dirs_exist_ok=True)
            self.channel.send(f"JOB_COMPLETE::{job}::{where}")
        else:
            self.channel.send(f"JOB_FAILED::{job}::the training failed")

    async def run(self, package):
        await peer.stage(self.args, "package")
        work = os.path.join(self.folder, "work")
        with zipfile.ZipFile(package) as archive:
            archive.extractall(work)
        if self.args.named_folder_only:
            work = os.path.join(work, os.path.splitext(os.path.basename(package))[0])
            if not os.path.isdir(work):
                say("no folder", work)
                return
        # The files are at the root of the package or in one folder.
        entries = os.listdir(work)
        if len(entries) == 1 and os.path.isdir(os.path.join(work, entries[0])):
            work = os.path.join(work, entries[0])
        await (self.train(work) if self.kind == "train" else self.track(work))

    async def train(self, work):
        await self.train_all(work)
        models = os.path.join(work, "models")
        if os.path.isdir(models):
            base = os.path.join(self.folder, "trained_package")
            await self.send_result(shutil.make_archive(base, "zip", models), "models")

    async def train_all(self, work):
        """Trains with each configuration that the script names; gives how many failed."""
        progress = asyncio.create_task(self.report(self.open_sockets())) if self.gui else None
        failed = 0
        for config in configs(os.path.join(work, "train-script.sh")):
            name = os.path.splitext(config)[0]
            self.channel.send(f"TRAIN_JOB_START::{name}")
            await peer.stage(self.args, "run")
            command = ["sleap-nn", "train", "--config-name", config, "--config-dir", "."]
            settings = ["trainer_config.ckpt_dir=models", f"trainer_config.run_name={name}"]
            code = await self.call([*command, *settings, *self.ports], work, "")
            failed += code != 0
            word = f"TRAIN_JOB_ERROR::{name}::{code}" if code else f"TRAIN_JOB_END::{name}"
            self.channel.send(word)
        if progress:
            progress.cancel()
        self.channel.send("TRAINING_JOBS_DONE")
        return failed

    def open_sockets(self):
        """The trainer connects to both: it reports on one and takes commands from the other."""
        context = zmq.asyncio.Context.instance()
        reports, self.control = context.socket(zmq.SUB), context.socket(zmq.PUB)
        reports.setsockopt(zmq.SUBSCRIBE, b"")
        names = (("publish_port", reports), ("controller_port", self.control))
        for name, socket in names:
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            self.ports.append(f"++trainer_config.zmq.{name}={port}")
        return reports

    async def report(self, reports):
        while True:
            self.channel.send(f"PROGRESS_REPORT::{await reports.recv_string()}")

    async def track(self, work):
        self.channel.send("INFERENCE_START")
        for command in trackings(os.path.join(work, "track-script.sh")):
            self.channel.send("INFERENCE_JOB_START::inference")
            code = await self.call(command, work, "TRACK_LOG:")
            if code:
                self.channel.send(f"INFERENCE_JOB_ERROR::inference::{code}")
                return
            self.channel.send("INFERENCE_JOB_END::inference")
            if self.args.sends_predictions:
                output = command[command.index("-o") + 1]
                await self.send_result(os.path.join(work, output), ".")
            elif any(name.endswith(".predictions.slp") for name in os.listdir(work)):
                # Here the real ones break, and say nothing more.
                return
        self.channel.send("INFERENCE_JOBS_DONE")

    async def send_result(self, path, folder):
        name = self.args.result_name or os.path.basename(path)
        meta = f"FILE_META::{name}:{os.path.getsize(path)}:{folder}"
        await peer.send_file(self.channel, path, meta, CHUNK, peer.stage(self.args, "result"))

    async def call(self, command, work, prefix):
        environment = os.environ | dict(pair.split("=", 1) for pair in self.args.env)
        process = await asyncio.create_subprocess_exec(
            *command, cwd=work, env=environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )
        async for line in process.stdout:
            self.channel.send(prefix + line.decode("utf-8", "replace"))
        return await process.wait()


def configs(script):
    """What the training lines name: whatever else they say is passed over, and so are other lines."""
    wanted = re.compile(r"^\s*sleap-(?:nn\s+)?train\s.*--config-name\s+(\S+)")
    with open(script, encoding="utf-8") as file:
        return [found.group(1) for found in map(wanted.match, file) if found]


def trackings(script):
    """The command lines of a tracking, split at blanks."""
    with open(script, encoding="utf-8") as file:
        lines = file.read().replace("\\\n", " ").split("\n")
    found = (re.match(r"^\s*sleap-nn\s+track\s+(.+)", line) for line in lines)
    return [["sleap-nn", "track", *line.group(1).split()] for line in found if line]


class Worker:
    """Answers one offer at a time."""

    def __init__(self, args, signaling):
        self.args, self.signaling, self.pc, self.job = args, signaling, None, None

    async def status(self, status):
        await self.signaling.send(
            type="update_metadata",
            peer_id=self.signaling.peer_id,
            metadata={"tags": TAGS, "properties": {"status": status}},
        )

    async def serve(self):
        while True:
            frame = await self.signaling.next()
            kind = frame.get("type")
            if kind == "offer":
                await self.on_offer(frame)
            elif kind == "peer_message":
                await self.on_peer_message(frame)
            elif kind in ("error", "quit"):
                say("ENDED BY", frame)
                os._exit(0)
            else:
                say("ignored", kind)

    async def on_peer_message(self, frame):
        payload = frame["payload"]
        if payload.get("app_message_type") != "job_request":
            return
        free = self.pc is None
        answer = {
            "app_message_type": "job_response",
            "job_id": payload["job_id"],
            "accepted": free,
            "estimated_start_time_sec": 0,
            "estimated_duration_minutes": 1,
            "worker_info": {"gpu_utilization": 0.0, "available_memory_mb": 12_000},
        }
        if not free:
            answer["reason"] = "busy"
        await self.signaling.send(
            type="peer_message",
            from_peer_id=self.signaling.peer_id,
            to_peer_id=frame["from_peer_id"],
            payload=answer,
        )

    async def on_offer(self, offer):
        sender = offer["sender"]
        if self.pc is not None:
            # The real ones have one connection, and answer a second client from it.
            await self.send_answer(self.pc, sender)
            return
        pc = self.pc = peer.connection()
        await self.status("reserved")
        await peer.stage(self.args, "offer")

        @pc.on("datachannel")
        def on_datachannel(channel):
            self.job = Job(channel, self.args)

        @pc.on("connectionstatechange")
        async def on_state():
            say("connection", pc.connectionState)
            if pc.connectionState in ("failed", "closed") and self.pc is pc:
                self.pc = self.job = None
                await pc.close()
                await self.status("available")

        await pc.setRemoteDescription(peer.description(offer))
        await pc.setLocalDescription(await pc.createAnswer())
        await self.send_answer(pc, sender)
        await peer.stage(self.args, "answer")

    async def send_answer(self, pc, to):
        local, own = pc.localDescription, self.signaling.peer_id
        await self.signaling.send(type=local.type, sender=own, target=to, sdp=local.sdp)


async def never(*_):
    pass


async def main(args):
    if args.no_association:
        peer.RTCSctpTransport.start = never
    identity = peer.post(args.http, "/anonymous-signin")
    if not args.room_id:
        room = peer.post(args.http, "/create-room", {}, identity["id_token"])
        args.room_id, args.token = room["room_id"], room["token"]
    metadata = {"tags": TAGS, "properties": PROPERTIES}
    signaling = await peer.Signaling.register(
        args.ws, identity, args.room_id, args.token, role="worker", metadata=metadata
    )
    say("Session string")
    say(" ", peer.session_string(args.room_id, args.token, signaling.peer_id))
    say("Room credentials")
    say("  Room ID:", args.room_id)
    say("  Token:", args.token)
    await Worker(args, signaling).serve()


if __name__ == "__main__":
    asyncio.run(main(parse()))
