"""The Python client against a real node: `python test_commute.py PATH_OF_THE_PROGRAM_COMMUTE`."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import zmq

import commute

PROGRAM = None
HERE = os.path.dirname(os.path.abspath(__file__))


class Served:
    """A node that can be killed and started again at the same place."""

    def __init__(self, *arguments):
        self.folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"zmq://127.0.0.1:{self.port}"
        self.arguments = arguments
        self.start()

    def start(self):
        command = [PROGRAM, "node", "--data", self.folder.name, "--listen", self.url, "--lease", "2", *self.arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for _ in range(1200):
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.025)
        raise AssertionError("the node does not listen")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        self.process.terminate()
        assert self.process.wait(30) == 0, "a node that is asked to end does so well"
        self.folder.cleanup()


class OnANode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.served = Served()

    @classmethod
    def tearDownClass(cls):
        cls.served.end()

    def setUp(self):
        self.node = commute.Node(self.served.url)
        self.addCleanup(self.node.close)
        self.topic = self.id().rsplit(".", 1)[-1].replace("_", "-")

    def publish(self, count, **attributes):
        return [self.node.publish(self.topic, {"n": n}, type="test", **attributes) for n in range(count)]

    def test_what_is_published_is_pulled_in_order_with_all_its_attributes(self):
        receipts = self.publish(5, key="k", source="here", subject="it", dataschema="urn:x", traceparent="00-1")
        self.assertEqual([receipt.position for receipt in receipts], list(range(5)))
        subscription = self.node.subscribe(self.topic, "g")
        self.assertEqual(subscription.backlog(), 5)
        deliveries = subscription.pull(10)
        self.assertEqual([delivery.event.json()["n"] for delivery in deliveries], list(range(5)))
        event = deliveries[0].event
        self.assertEqual((event.key, event.source, event.type), ("k", "here", "test"))
        for name, value in {"subject": "it", "dataschema": "urn:x", "traceparent": "00-1"}.items():
            self.assertEqual(event.attributes[name], value)
        self.assertTrue(all(delivery.ack() for delivery in deliveries))
        self.assertEqual(subscription.pull(1, wait=0), [])

    def test_an_id_is_stored_once(self):
        event = commute.cloudevent(b"\x00\xff", "test", id="same")
        first, second = (self.node.publish_all([(self.topic, event)])[0] for _ in range(2))
        self.assertEqual((first.duplicate, second.duplicate, first.position), (False, True, second.position))
        self.assertEqual(self.node.subscribe(self.topic, "g").pull(2)[0].event.data, b"\x00\xff")

    def test_many_publishes_may_be_under_way(self):
        event = lambda n: commute.cloudevent({"n": n}, "test")  # noqa: E731
        soon = [self.node.publish_soon([(self.topic, event(n))]) for n in range(200)]
        self.assertEqual(len({receipt.result()[0].position for receipt in soon}), 200)

    def test_every_group_gets_every_event_and_instances_share(self):
        self.publish(10)
        self.assertEqual(len(self.node.subscribe(self.topic, "a").pull(20)), 10)
        other = commute.Node(self.served.url)
        one, two = self.node.subscribe(self.topic, "b"), other.subscribe(self.topic, "b")
        seen = []
        while len(seen) < 10:
            for subscription in (one, two):
                for delivery in subscription.pull(3, wait=0.2):
                    seen.append(delivery.event.json()["n"])
                    delivery.ack()
        self.assertEqual(sorted(seen), list(range(10)))
        other.close()

    def test_a_handler_acks_retries_and_rejects(self):
        self.publish(3)
        stop, attempts = threading.Event(), {}

        def handler(event, delivery):
            n = event.json()["n"]
            attempts.setdefault(n, []).append(delivery.attempt)
            if n == 0 and delivery.attempt < 3:
                raise commute.Retry("not yet", after=0.01)
            if n == 1:
                raise commute.Reject("never")
            if n == 0:
                stop.set()

        self.node.subscribe(self.topic, "g").run(handler, stop=stop)
        self.assertEqual(attempts, {0: [1, 2, 3], 1: [1], 2: [1]})
        letter = self.node.subscribe(self.topic + ".dead", "looks").pull(1)[0].event
        self.assertEqual((letter.type, letter.json()["reason"]), ("commute.dead_letter", "never"))
        self.assertEqual(letter.json()["event"]["data"], {"n": 1})

    def test_attempts_are_remembered_for_whoever_tries_next(self):
        self.publish(1)
        first = commute.Node(self.served.url)
        delivery = first.subscribe(self.topic, "g").pull(1)[0]
        self.assertTrue(delivery.retry(after=0))
        first.close()
        again = self.node.subscribe(self.topic, "g").pull(1)[0]
        self.assertEqual(again.attempt, 2)

    def test_what_is_given_back_comes_again_and_what_is_parked_does_not(self):
        self.publish(2)
        subscription = self.node.subscribe(self.topic, "g")
        one, two = subscription.pull(2)
        two.park("look at it")
        one.give_back()
        again = subscription.pull(2)
        self.assertEqual([delivery.event.json()["n"] for delivery in again], [0])
        self.assertEqual(again[0].attempt, 1)

    def test_an_ack_publishes_in_the_same_step(self):
        self.publish(1)
        delivery = self.node.subscribe(self.topic, "g").pull(1)[0]
        delivery.ack(publish=[(self.topic + ".out", commute.cloudevent({"of": 0}, "out"))])
        self.assertEqual(self.node.subscribe(self.topic + ".out", "g").pull(1)[0].event.json(), {"of": 0})

    def test_not_before_is_kept(self):
        due = time.time() + 0.6
        from datetime import datetime, timezone

        self.node.publish(self.topic, {"n": 0}, type="test", not_before=datetime.fromtimestamp(due, timezone.utc))
        subscription = self.node.subscribe(self.topic, "g")
        self.assertEqual(len(subscription.pull(1)), 1)
        self.assertGreaterEqual(time.time(), due - 0.001)

    def test_a_client_that_dies_leaves_its_events_to_others(self):
        self.publish(2)
        script = "import commute, sys, os\nn = commute.Node(sys.argv[1])\nn.subscribe(sys.argv[2], 'g').pull(2)\nos._exit(9)"
        subprocess.run([sys.executable, "-c", script, self.served.url, self.topic], cwd=HERE, check=False)
        deliveries = self.node.subscribe(self.topic, "g").pull(2, wait=20)
        self.assertEqual([delivery.event.json()["n"] for delivery in deliveries], [0, 1])

    def test_an_event_that_is_none_is_refused_with_a_code(self):
        with self.assertRaises(commute.Refused) as refused:
            self.node.publish_all([(self.topic, commute.Event({"id": "x"}, b""))])
        self.assertEqual(refused.exception.code, "CM0002")

    def test_libzmq_may_look_whether_the_node_is_there(self):
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.HEARTBEAT_IVL, 100)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
        dealer.connect(self.served.url.replace("zmq", "tcp"))
        dealer.send_multipart([b"CM1", b"HELLO", b"0", b'{"client": "raw"}', b""])
        self.assertEqual(dealer.recv_multipart()[1], b"WELCOME")
        monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.assertFalse(monitor.poll(700), "its heartbeats are answered")
        context.destroy(linger=0)

    def test_what_operators_ask_is_refused_and_nothing_else_is_touched(self):
        self.node._ask(commute._Asked("ATTACH", {"apps": ["snake"], "instance": "1"}))
        lanes = [PROGRAM, "--broker", self.served.url, "lanes", "--app", "snake", "--json"]
        for _ in range(2):
            said = subprocess.run(lanes, capture_output=True, text=True, timeout=60)
            self.assertEqual(said.returncode, 5, said.stderr)
            self.assertEqual(json.loads(said.stderr)["error"]["code"], "CM0037")
        self.publish(3)
        self.assertEqual(len(self.node.subscribe(self.topic, "g").pull(5)), 3)

    def test_the_examples_work(self):
        example = lambda name: [sys.executable, os.path.join(HERE, "examples", name), self.served.url, "5"]  # noqa: E731
        said = subprocess.run(example("producer.py"), capture_output=True, text=True, timeout=60)
        self.assertEqual(said.stdout.count("[x] sent"), 5, said.stderr)
        said = subprocess.run(example("consumer.py"), capture_output=True, text=True, timeout=60)
        self.assertEqual(said.stdout.count("Hello World!"), 5, said.stderr)
        said = subprocess.run(example("producer.py"), capture_output=True, text=True, timeout=60)
        self.assertEqual(said.stdout.count("known already"), 5, said.stderr)


class Kills(unittest.TestCase):
    def test_a_node_that_is_killed_loses_nothing_and_repeats_no_effect(self):
        served = Served()
        node = commute.Node(served.url)
        subscription = node.subscribe("kills", "g")
        effects, stop = [], threading.Event()

        def handler(event, _delivery):
            effects.append(event.id)
            if len(set(effects)) == 300:
                stop.set()

        handling = threading.Thread(target=subscription.run, args=(handler,), kwargs={"stop": stop})
        handling.start()
        receipts = []
        for n in range(300):
            receipts.append(node.publish_soon([("kills", commute.cloudevent({"n": n}, "test", id=f"e{n}"))]))
            if n in (100, 200):
                served.kill()
                served.start()
        positions = {receipt.result(60)[0].position for receipt in receipts}
        handling.join(60)
        self.assertFalse(handling.is_alive())
        self.assertEqual(len(positions), 300)
        self.assertEqual(len(set(effects)), 300)
        node.close()
        check = commute.Node(served.url)
        everything, stored = check.subscribe("kills", "all", credit=1000), []
        while pulled := everything.pull(1000, wait=0.5):
            stored.extend(delivery.event.json()["n"] for delivery in pulled)
        check.close()
        self.assertEqual(sorted(stored), list(range(300)), "each is stored, and once")
        served.end()


class Keys(unittest.TestCase):
    def test_only_who_has_the_key_comes_in(self):
        with tempfile.TemporaryDirectory() as folder:
            files = {}
            for name in ("right", "wrong"):
                files[name] = os.path.join(folder, name)
                with open(files[name], "w") as file:
                    file.write(name * 8)
            served = Served("--key-file", files["right"])
            with commute.Node(served.url, key_file=files["right"]) as node:
                node.publish("keys", {}, type="test")
            for key in (None, files["wrong"]):
                with self.assertRaises(commute.Refused) as refused:
                    commute.Node(served.url, key_file=key)
                self.assertEqual(refused.exception.code, "CM0030")
            served.end()

    def test_nobody_there_is_said(self):
        with self.assertRaises(commute.Away):
            commute.Node("zmq://127.0.0.1:1", connect_timeout=0.5)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
