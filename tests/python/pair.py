"""Pairs as a laptop, from docs/security.md alone: SPAKE2, key confirmation, sealed payloads.

    pair.py --ws ws://HOST:PORT CODE [--name NAME] [--role client|worker] [--spoil MESSAGE]

Prints the worker's reply and the verification words as JSON. --spoil changes one bit of that message
(1 to 4) as a server in between could; the exit code is 3 when the worker refuses, or is refused.
"""

import argparse
import asyncio
import base64
import json
import sys

import websockets
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mnemonic import Mnemonic
from spake2 import SPAKE2_A

SALT = b"sleap-rtc pairing 1"
NONCE = bytes(12)


class Refused(Exception):
    """The other side, or the server, is not believed, or does not believe this one."""


class Keys:
    """What follows from the shared secret."""

    def __init__(self, secret: bytes):
        self.secret = secret

    def derive(self, label: bytes, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, SALT, label).derive(self.secret)

    def seal(self, side: bytes, payload: bytes) -> bytes:
        label = side + b" seals"
        sealed = AESGCM(self.derive(label, 32)).encrypt(NONCE, payload, label)
        return self.derive(side + b" confirms", 32) + sealed

    def open(self, side: bytes, message: bytes) -> bytes:
        if message[:32] != self.derive(side + b" confirms", 32):
            raise Refused("the other side does not know the code")
        label = side + b" seals"
        try:
            return AESGCM(self.derive(label, 32)).decrypt(NONCE, message[32:], label)
        except InvalidTag:
            raise Refused("the sealed payload was changed") from None

    def words(self) -> str:
        number = int.from_bytes(self.derive(b"words", 9), "big") >> (9 * 8 - 6 * 11)
        every = Mnemonic("english").wordlist
        return " ".join(every[number >> (11 * (5 - at)) & 2047] for at in range(6))


class Mailbox:
    """The server's side of it: frames, and parcels in base64."""

    def __init__(self, socket, spoil: int):
        self.socket, self.spoil, self.parcels = socket, spoil, 0

    def spoiled(self, parcel: bytes) -> bytes:
        self.parcels += 1
        if self.parcels != self.spoil:
            return parcel
        return parcel[:-1] + bytes([parcel[-1] ^ 1])

    async def frame(self) -> dict:
        return json.loads(await self.socket.recv())

    async def join(self, number: int) -> None:
        await self.socket.send(json.dumps({"type": "join", "mailbox": number}))
        answer = await self.frame()
        if answer["type"] != "joined":
            raise Refused(f"the server answers {answer}")

    async def send(self, parcel: bytes) -> None:
        text = base64.urlsafe_b64encode(self.spoiled(parcel)).rstrip(b"=").decode()
        await self.socket.send(json.dumps({"type": "send", "parcel": text}))

    async def receive(self) -> bytes:
        event = await self.frame()
        if event["type"] != "received":
            raise Refused(f"instead of a parcel came {event}")
        text = event["parcel"]
        return self.spoiled(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


async def pair(args) -> dict:
    code = args.code.lower()
    device = Ed25519PrivateKey.generate().public_key()
    introduction = {
        "device": device.public_bytes(Encoding.Raw, PublicFormat.Raw).hex(),
        "name": args.name,
        "role": args.role,
    }
    async with websockets.connect(args.ws.rstrip("/") + "/pair", proxy=None) as socket:
        mailbox = Mailbox(socket, args.spoil)
        await mailbox.join(int(code.split("-")[0]))
        side = SPAKE2_A(
            code.encode(),
            idA=b"sleap-rtc pairing 1 joiner",
            idB=b"sleap-rtc pairing 1 worker",
        )
        await mailbox.send(side.start())
        try:
            keys = Keys(side.finish(await mailbox.receive()))
        except Exception as error:  # The library has several for this.
            raise Refused(f"the second message is none of SPAKE2: {error!r}") from None
        await mailbox.send(keys.seal(b"joiner", json.dumps(introduction).encode()))
        reply = json.loads(keys.open(b"worker", await mailbox.receive()))
        return {"reply": reply, "words": keys.words()}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("code")
    parser.add_argument("--ws", required=True)
    parser.add_argument("--name", default="python@tests")
    parser.add_argument("--role", default="client")
    parser.add_argument("--spoil", type=int, default=0)
    try:
        print(json.dumps(asyncio.run(asyncio.wait_for(pair(parser.parse_args()), 10))))
        return 0
    except (Refused, websockets.ConnectionClosed, TimeoutError) as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
