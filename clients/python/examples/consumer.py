"""The consumer of a queue tutorial, on a node: basic_consume with auto_ack, without what auto_ack loses.

    python consumer.py zmq://127.0.0.1:5599 [HOW_MANY]

An event is acknowledged when the callback returns. A callback that fails gets it again, five times in all, and others are not held
up meanwhile; then it is a dead letter on the topic `hello.dead`, which `commute dead list` shows. A consumer that is killed leaves what it had to the next.
"""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import commute  # noqa: E402


def main(url, count=None):
    stop, seen = threading.Event(), []

    def callback(event, delivery):
        print(f" [x] received {event.id}: {event.json()['text']} (attempt {delivery.attempt})")
        seen.append(event.id)
        if count is not None and len(seen) >= count:
            stop.set()

    with commute.Node(url, client="consumer") as node:
        node.subscribe("hello", "greeters").run(callback, stop=stop)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
