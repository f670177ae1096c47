"""The producer of a queue tutorial, on a node: what pika's basic_publish promised, this keeps.

    commute node --data data --listen zmq://127.0.0.1:5599
    python producer.py zmq://127.0.0.1:5599 5

`queue_declare` has no place here: a topic is there when somebody publishes, and a group has everything from its first event on.
When publish returns, the event is on disk; the same id published twice is one event.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import commute  # noqa: E402


def main(url, count):
    with commute.Node(url, client="producer") as node:
        for n in range(count):
            order = {"order": n, "text": "Hello World!"}
            receipt = node.publish("hello", order, type="hello.order", id=f"order-{n}", key=f"customer-{n % 3}")
            print(f" [x] sent order {n}: position {receipt.position}{', known already' if receipt.duplicate else ''}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5)
