"""A stand-in for SLEAP's loss viewer: it owns two ZMQ sockets and waits for whoever connects.

Prints its ports, then each event that arrives, and ends when the monitor is told to close.
"""

import argparse
import json
import sys

import zmq

from peer import say

LIMIT_MS = 90_000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stop", action="store_true", help="press `stop` at the first epoch")
    args = parser.parse_args()
    context = zmq.Context()
    progress, control = context.socket(zmq.SUB), context.socket(zmq.PUB)
    progress.setsockopt(zmq.SUBSCRIBE, b"")
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (control, progress)]
    say("PORTS", *ports)
    while progress.poll(LIMIT_MS):
        event = json.loads(progress.recv_string())
        say(json.dumps(event))
        if event["event"] == "rtc_close_monitor":
            return 0
        if event["event"] == "rtc_update_monitor":
            inner = json.loads(event["rtc_msg"])
            if args.stop and inner["event"] == "epoch_end":
                control.send_string(json.dumps({"command": "stop"}))
    say("nothing more came")
    return 1


if __name__ == "__main__":
    sys.exit(main())
