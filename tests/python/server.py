"""A signaling server that behaves as the protocol says the old one does.

Room tokens have six digits; `error` frames of peers go nowhere; an update of the metadata without
tags loses the tags; nobody's identity is compared with anything; deletions need no authorisation;
only a peer's socket ends its presence. HTTP and WebSocket come in at one port, for the tests' sake.
"""

import argparse
import asyncio
import json
import secrets
import time

import websockets

from peer import say

OPERATORS = {
    "$gte": lambda have, want: have >= want,
    "$lte": lambda have, want: have <= want,
    "$eq": lambda have, want: have == want,
}
# What the old one answers, in each of its three shapes.
ERRORS = [
    {"type": "error", "reason": "something"},
    {"type": "error", "code": "INVALID_MESSAGE", "message": "something"},
    {"error": "something"},
]


class Server:
    def __init__(self, errors):
        self.errors, self.rooms, self.peers, self.names = errors, {}, {}, 0

    # --- HTTP ---

    def http(self, method, path, headers, body):
        if (method, path) == ("POST", "/anonymous-signin"):
            self.names += 1
            return 200, {"id_token": secrets.token_hex(8), "username": f"old-{self.names}"}
        if (method, path) == ("POST", "/create-room"):
            if not headers.get("authorization", "").startswith("Bearer "):
                return 401, {"detail": "no token"}
            room, token = secrets.token_hex(4), secrets.token_hex(3)
            self.rooms[room] = token
            return 200, {"room_id": room, "token": token}
        if method == "POST" and path in ("/delete-peer", "/delete-peers-and-room"):
            self.rooms.pop(body.get("room_id"), None)
            self.peers.pop(body.get("peer_id"), None)
            return 200, {"status": "deleted"}
        if (method, path) == ("GET", "/health"):
            return 200, {"status": "healthy"}
        return 404, {"detail": "Not Found"}

    async def front(self, reader, writer, websocket_port):
        """Answers an HTTP request, or passes a WebSocket on."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            request, *lines = head.decode().split("\r\n")
            pairs = (line.split(":", 1) for line in lines if ":" in line)
            headers = {name.lower(): value.strip() for name, value in pairs}
            if headers.get("upgrade", "").lower() == "websocket":
                back = await asyncio.open_connection("127.0.0.1", websocket_port)
                back[1].write(head)
                await asyncio.gather(pipe(reader, back[1]), pipe(back[0], writer))
                return
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = request.split(" ")
            status, answer = self.http(method, path, headers, json.loads(body or b"{}"))
            text = json.dumps(answer)
            kind = "Content-Type: application/json\r\nConnection: close"
            writer.write(
                f"HTTP/1.1 {status} -\r\n{kind}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    # --- WebSocket ---

    async def serve(self, socket):
        own = None
        try:
            async for text in socket:
                frame = json.loads(text)
                if frame.get("type") == "register":
                    own = await self.register(socket, frame) or own
                else:
                    await self.on_frame(socket, frame)
        except websockets.ConnectionClosed:
            pass
        finally:
            if own and self.peers.get(own, {}).get("socket") is socket:
                del self.peers[own]

    async def register(self, socket, frame):
        if self.rooms.get(frame["room_id"]) != frame["token"]:
            await send(socket, error="Invalid token for room")
            return None
        own = frame["peer_id"]
        self.peers[own] = {
            "socket": socket,
            "room": frame["room_id"],
            "role": frame.get("role", "peer"),
            "metadata": frame.get("metadata", {}),
            "connected_at": time.time(),
        }
        names = {name: frame[name] for name in ("room_id", "token", "peer_id")}
        await send(socket, type="registered_auth", **names)
        for error in ERRORS if self.errors else []:
            await send(socket, **error)
        return own

    async def on_frame(self, socket, frame):
        kind = frame.get("type")
        if kind == "error":
            say("dropped", json.dumps(frame))
        elif kind in ("offer", "answer", "candidate"):
            await self.forward(socket, frame.get("target"), frame)
        elif kind == "peer_message":
            await self.forward(socket, frame.get("to_peer_id"), frame)
        elif kind == "discover_peers":
            own = frame["from_peer_id"]
            found = [self.shown(peer) for peer in self.peers if self.is_wanted(peer, frame)]
            await send(socket, type="peer_list", to_peer_id=own, peers=found, count=len(found))
        elif kind == "update_metadata":
            own = self.peers[frame["peer_id"]]
            old, new = own["metadata"], frame["metadata"]
            properties = {**old.get("properties", {}), **new.get("properties", {})}
            own["metadata"] = {"tags": new.get("tags", []), "properties": properties}
            own_id, metadata = frame["peer_id"], own["metadata"]
            await send(socket, type="metadata_updated", peer_id=own_id, metadata=metadata)
        else:
            text = f"Unknown message type: {kind}"
            await send(socket, type="error", code="UNKNOWN_MESSAGE_TYPE", message=text)

    async def forward(self, socket, target, frame):
        if target not in self.peers:
            text = f"Peer {target} not found"
            await send(socket, type="error", code="PEER_NOT_FOUND", message=text)
            return
        await send(self.peers[target]["socket"], **frame)

    def shown(self, peer):
        known = self.peers[peer]
        names = ("role", "metadata", "connected_at")
        return {"peer_id": peer, **{name: known[name] for name in names}}

    def is_wanted(self, peer, frame):
        own, known, filters = frame["from_peer_id"], self.peers[peer], frame.get("filters", {})
        if peer == own or own not in self.peers or known["room"] != self.peers[own]["room"]:
            return False
        if filters.get("role") not in (None, known["role"]):
            return False
        tags = filters.get("tags")
        if tags and not set(tags) & set(known["metadata"].get("tags", [])):
            return False
        have = known["metadata"].get("properties", {})
        wanted = (filters.get("properties") or {}).items()
        return all(name in have and matches(have[name], want) for name, want in wanted)


def matches(have, want):
    if isinstance(want, dict):
        return all(OPERATORS[operator](have, value) for operator, value in want.items())
    return have == want


async def send(socket, **frame):
    await socket.send(json.dumps(frame))


async def pipe(reader, writer):
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--errors", action="store_true", help="send errors to whoever registers")
    server = Server(parser.parse_args().errors)
    inner = await websockets.serve(server.serve, "127.0.0.1", 0, max_size=2**20)
    inner_port = inner.sockets[0].getsockname()[1]
    front = await asyncio.start_server(
        lambda reader, writer: server.front(reader, writer, inner_port), "127.0.0.1", 0
    )
    address = "127.0.0.1:{}".format(front.sockets[0].getsockname()[1])
    say(f"listening on http://{address} and ws://{address}")
    await front.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
