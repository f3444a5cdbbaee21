"""One end of a transfer between aiortc peers, as the original moves a file: messages of 65,536
bytes (32,768 from a worker), a pause while more than 16 MiB are buffered, the file in memory.

Speaks with the measurement as `bench end` does: lines of JSON on standard output; on standard input
the other end's description, then `go`; the end of the input is the end of this program.
"""

import argparse
import asyncio
import json
import sys
import time

import aioice.ice

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("what", choices=["send", "receive"])
parser.add_argument("--address", required=True)
parser.add_argument("--bytes", type=int, required=True)
parser.add_argument("--chunk", type=int, default=65_536)
args = parser.parse_args()

# This address alone: aioice leaves out 127.0.0.1, and takes all others.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [args.address]

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402

CHANNEL = "my-data-channel"
HIGH_WATER = 16 * 1024 * 1024


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


async def hear():
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        sys.exit("nobody wants this end any more")
    return line.strip()


async def done(start):
    say("done", bytes=args.bytes, seconds=time.monotonic() - start)
    await asyncio.to_thread(sys.stdin.read)


async def send(pc):
    start = time.monotonic()
    channel = pc.createDataChannel(CHANNEL)
    opened, received = asyncio.Event(), asyncio.Event()
    channel.on("open", opened.set)
    channel.on("message", lambda message: received.set() if message == "RECEIVED" else None)
    await pc.setLocalDescription(await pc.createOffer())
    say("here", to=pc.localDescription.sdp)
    answer = RTCSessionDescription(sdp=json.loads(await hear()), type="answer")
    await pc.setRemoteDescription(answer)
    await opened.wait()
    say("connected", ms=(time.monotonic() - start) * 1e3)
    content = bytes(args.bytes)
    await hear()
    start = time.monotonic()
    channel.send(f"FILE_META::bench:{args.bytes}:False")
    for offset in range(0, args.bytes, args.chunk):
        while channel.bufferedAmount > HIGH_WATER:
            await asyncio.sleep(0.1)
        channel.send(content[offset : offset + args.chunk])
    channel.send("END_OF_FILE")
    await received.wait()
    await done(start)


async def receive(pc):
    opened, ended = asyncio.get_running_loop().create_future(), asyncio.Event()
    content = bytearray()

    @pc.on("datachannel")
    def on_channel(channel):
        @channel.on("message")
        def on_message(message):
            if isinstance(message, bytes):
                content.extend(message)
            elif message == "END_OF_FILE":
                ended.set()

        opened.set_result(channel)

    offer = RTCSessionDescription(sdp=json.loads(await hear()), type="offer")
    await pc.setRemoteDescription(offer)
    await pc.setLocalDescription(await pc.createAnswer())
    say("here", to=pc.localDescription.sdp)
    channel = await opened
    say("connected", ms=0.0)
    await hear()
    start = time.monotonic()
    await ended.wait()
    if len(content) != args.bytes:
        sys.exit(f"{len(content)} bytes came of {args.bytes}")
    channel.send("RECEIVED")
    await done(start)


async def main():
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    await (send(pc) if args.what == "send" else receive(pc))
    await pc.close()


asyncio.run(main())
