"""What the Python peers share: signing in, rooms, signaling, and one data channel.

Written from the protocol alone, with aiortc and websockets; it shares no code with the programs
that it is there to test.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import urllib.request

import aioice.ice
import websockets

# All traffic of the tests stays on this machine, and aioice leaves 127.0.0.1 out.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from aiortc import RTCSctpTransport  # noqa: E402, F401

CHANNEL = "my-data-channel"
HIGH_WATER = 16 * 1024 * 1024
PREFIX = "sleap-session:"


def say(*words):
    print(*words, flush=True)


def options(description):
    """The options that both peers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--http", required=True, help="the signaling server's HTTP address")
    parser.add_argument("--ws", required=True, help="the signaling server's WebSocket address")
    parser.add_argument("--room-id")
    parser.add_argument("--token")
    parser.add_argument("--vanish", metavar="STAGE", help="end without a word at this stage")
    parser.add_argument("--silent", metavar="STAGE", help="stay, and say nothing from there on")
    return parser


def vanish(args, name):
    """Where a test may want this peer to end without a word."""
    if args.vanish == name:
        say("VANISHED AT", name)
        os._exit(9)


async def stage(args, name):
    """Where a test may want this peer to fail in one way or the other."""
    vanish(args, name)
    if args.silent == name:
        say("SILENT AT", name)
        await asyncio.Event().wait()


def post(base, path, body=None, bearer=None):
    request = urllib.request.Request(base + path, method="POST", data=b"")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def session_string(room, token, peer):
    text = json.dumps({"r": room, "t": token, "p": peer})
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode()


def read_session_string(text):
    parts = json.loads(base64.urlsafe_b64decode(text.removeprefix(PREFIX)))
    return parts["r"], parts["t"], parts["p"]


class Signaling:
    """A registered peer's WebSocket."""

    def __init__(self, socket, peer_id):
        self.socket, self.peer_id = socket, peer_id

    @classmethod
    async def register(cls, ws, identity, room_id, token, **introduction):
        socket = await websockets.connect(ws, max_size=2**20)
        own = cls(socket, identity["username"])
        await own.send(
            type="register",
            peer_id=own.peer_id,
            room_id=room_id,
            token=token,
            id_token=identity["id_token"],
            **introduction,
        )
        await own.receive("registered_auth")
        return own

    async def send(self, **frame):
        await self.socket.send(json.dumps(frame))

    async def next(self):
        return json.loads(await self.socket.recv())

    async def receive(self, kind, limit=20):
        """The next frame of this type. As the real ones do, this passes over everything else, errors
        and refusals included; only `quit` ends the program."""
        while True:
            frame = await asyncio.wait_for(self.next(), limit)
            if frame.get("type") == kind:
                return frame
            say("<", json.dumps(frame))
            if frame.get("type") == "quit":
                sys.exit(5)


def connection():
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def description(frame):
    return RTCSessionDescription(sdp=frame["sdp"], type=frame["type"])


async def send_file(channel, path, meta, chunk, midway):
    """The file after its announcement, in chunks, waiting while much is under way. `midway` is
    awaited once a part of it is out."""
    channel.send(meta)
    with open(path, "rb") as file:
        while piece := file.read(chunk):
            while channel.bufferedAmount > HIGH_WATER:
                await asyncio.sleep(0.01)
            channel.send(piece)
            # Comes at any time from a real peer, and is never part of a file.
            channel.send(b"KEEP_ALIVE")
            if midway:
                await asyncio.sleep(0.1)
                await midway
                midway = None
    channel.send("END_OF_FILE")


def parse_meta(text):
    """name, size and the rest of `FILE_META::name:size:rest`."""
    name, size, rest = text.removeprefix("FILE_META::").rsplit(":", 2)
    return name, int(size), rest


class IncomingFile:
    """A file that arrives in binary messages. Only the last part of its name is used."""

    def __init__(self, meta, folder):
        name, self.size, self.rest = parse_meta(meta)
        self.path = os.path.join(folder, os.path.basename(name.replace("\\", "/")))
        self.file, self.length = open(self.path, "wb"), 0

    def push(self, data):
        self.length += self.file.write(data)

    def finish(self):
        self.file.close()
        if self.length != self.size:
            raise SystemExit(f"{self.path}: {self.length} bytes of {self.size} announced")
        return self.path
