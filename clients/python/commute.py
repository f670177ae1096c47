"""A client of a commute node: durable events over ZeroMQ, in one file on pyzmq.

    with commute.Node("zmq://127.0.0.1:5599") as node:
        node.publish("orders", {"order": 1}, type="order.placed", key="customer-7")
        for delivery in node.subscribe("orders", "mail").pull(10):
            print(delivery.event.json())
            delivery.ack()

Everything here keeps the protocol of docs/brokers/zeromq.md. One thread of its own owns the socket; all methods may be called from
any thread. A publish returns when the event is on the node's disk. What was asked and not answered when a connection broke is asked
again, under the same number, so that nothing is lost and nothing takes effect twice.
"""

import hashlib
import hmac
import heapq
import itertools
import json
import os
import queue
import random
import secrets
import socket
import threading
import time
import uuid
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import zmq
from zmq.utils.monitor import recv_monitor_message

__all__ = ["Node", "Subscription", "Delivery", "Event", "Receipt", "Retry", "Reject", "Refused", "Away"]

VERSION = b"CM1"
TAKE_WAIT_MS = 5_000


class Refused(Exception):
    """The node said no. `code` is one of docs/errors."""

    def __init__(self, code, detail):
        super().__init__(f"{detail} ({code})")
        self.code = code


class Away(Exception):
    """The node was away for longer than the client's patience."""


class Retry(Exception):
    """Raised by a handler: try this event again, not before so many seconds are over."""

    def __init__(self, reason="", after=None):
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a handler: never try this event again; it becomes a dead letter."""


@dataclass(frozen=True)
class Receipt:
    """Proof that an event is on disk: its place, and whether the topic had its id already."""

    position: int
    duplicate: bool


@dataclass(frozen=True)
class Event:
    """A CloudEvent: its attributes by name, and its payload."""

    attributes: dict
    data: bytes = b""

    id = property(lambda self: self.attributes["id"])
    type = property(lambda self: self.attributes["type"])
    source = property(lambda self: self.attributes["source"])
    key = property(lambda self: self.attributes.get("partitionkey"))

    def json(self):
        return json.loads(self.data)

    def structured(self):
        """As one JSON object."""
        try:
            return {**self.attributes, "data": self.json()} if self.data else dict(self.attributes)
        except ValueError:
            import base64

            return {**self.attributes, "data_base64": base64.b64encode(self.data).decode()}


def cloudevent(data, type, source="python", key=None, id=None, time=None, content_type=None, **more):
    """A CloudEvent; data that is no bytes becomes JSON."""
    attributes = {"specversion": "1.0", "id": id or str(uuid.uuid4()), "source": source, "type": type}
    attributes["time"] = _rfc3339(time or datetime.now(timezone.utc))
    if not isinstance(data, (bytes, bytearray)):
        data = json.dumps(data, ensure_ascii=False).encode()
        content_type = content_type or "application/json"
    if content_type:
        attributes["datacontenttype"] = content_type
    if key is not None:
        attributes["partitionkey"] = str(key)
    attributes.update({name: str(value) for name, value in more.items() if value is not None})
    return Event(attributes, bytes(data))


def _rfc3339(moment):
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _sent(topic, event, not_before=None):
    sent = {"topic": topic, "size": len(event.data), "event": event.attributes}
    if not_before is not None:
        sent["not_before"] = _rfc3339(not_before)
    return sent


@dataclass
class _Asked:
    kind: str
    header: dict
    body: bytes = b""
    of: "Subscription" = None
    answer: Future = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Node:
    """A connection to a node, which it finds again when it breaks.

    `patience`: how many seconds a publish waits for a node that is away.
    """

    def __init__(self, url, key_file=None, client="commute.py", patience=30.0, connect_timeout=10.0):
        if url.startswith("zmq+ipc://"):
            self._endpoint = "ipc://" + url[len("zmq+ipc://"):]
        elif url.startswith("zmq://"):
            self._endpoint = "tcp://" + url[len("zmq://"):].rstrip("/")
        else:
            raise ValueError("a node's URL is zmq://host:port or zmq+ipc:///path")
        self._key = None
        if key_file:
            with open(key_file, "rb") as file:
                self._key = file.read().strip()
        self._client, self._patience, self._connect_timeout = client, patience, connect_timeout
        self._commands = queue.Queue(1024)
        self._bell, self._heard_bell = socket.socketpair()
        self._heard_bell.setblocking(False)
        self._subscriptions = []
        self._closing = False
        self.capabilities = None
        started = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="commute", daemon=True)
        self._thread.start()
        started.result()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def publish(self, topic, data, type, not_before=None, **attributes):
        """Publishes one event and returns its receipt, which it has when the event is on disk."""
        return self.publish_all([(topic, cloudevent(data, type, **attributes), not_before)])[0]

    def publish_all(self, events):
        """Publishes `(topic, Event)` or `(topic, Event, not_before)` in order; returns their receipts."""
        return self.publish_soon(events).result()

    def publish_soon(self, events):
        """As publish_all, and returns a Future: many may be under way."""
        events = [(*event, None)[:3] for event in events]
        header = {"events": [_sent(*event) for event in events]}
        asked = _Asked("PUBLISH", header, b"".join(event.data for _, event, _ in events))
        receipts = Future()
        asked.answer.add_done_callback(lambda answer: _pass_on(answer, receipts, lambda reply: [
            Receipt(one["position"], one["duplicate"]) for one in reply[0]["receipts"]
        ]))
        self._ask(asked)
        return receipts

    def subscribe(self, topic, group, credit=64):
        """Opens a group's subscription; instances of one group share its events."""
        subscription = Subscription(self, topic, group, credit)
        asked = _Asked("SUBSCRIBE", {"topic": topic, "group": group, "credit": credit}, of=subscription)
        self._ask(asked)
        asked.answer.result()
        return subscription

    def close(self):
        """Waits for what was asked, and says goodbye."""
        if not self._closing:
            self._closing = True
            self._ring()
        self._thread.join()
        self._bell.close()
        self._heard_bell.close()

    # ── the thread that owns the socket ────────────────────────────────────────────────────────────────────────────

    def _ask(self, asked):
        if self._closing or not self._thread.is_alive():
            raise Refused("CM0014", "the client is closed")
        self._commands.put(asked)
        self._ring()

    def _ring(self):
        try:
            self._bell.send(b"!", socket.MSG_DONTWAIT)
        except BlockingIOError:
            # It rings already.
            pass

    def _run(self, started):
        self._context = zmq.Context()
        self._outstanding = OrderedDict()
        self._unsent = []
        self._next = 1
        self._session = None
        try:
            self._connect()
        except Exception as error:
            self._context.destroy(linger=0)
            return started.set_exception(error)
        started.set_result(None)
        error = None
        while error is None:
            try:
                self._serve()
                error = Refused("CM0014", "the client is closed")
            except (_Broken, zmq.ZMQError):
                error = self._reconnect()
        self._closing = True
        while not self._commands.empty():
            self._begin(self._commands.get())
        for asked in self._outstanding.values():
            asked.answer.set_exception(error)
        self._context.destroy(linger=0)

    def _connect(self):
        """A new socket, because one that reconnects by itself would not say hello first.

        It does so after a day at the earliest. If it never did (-1), libzmq 4.3 would end the whole process when a connection
        breaks while a message is read.
        """
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 500), (zmq.RECONNECT_IVL, 86_400_000), (zmq.SNDHWM, 0), (zmq.RCVHWM, 0)):
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        self._socket.connect(self._endpoint)
        deadline = time.monotonic() + self._connect_timeout
        nonce = secrets.token_hex(16) if self._key else None
        hello = {"client": self._client, **({"nonce": nonce} if nonce else {})}
        self._say("HELLO", 0, {**hello, **({"session": self._session} if self._session else {})})
        kind, _, header, _ = self._hear_before(deadline)
        if kind == "CHALLENGE":
            if not self._key or not hmac.compare_digest(self._proof("node", nonce), header["proof"]):
                raise Refused("CM0030", "the node has another key" if self._key else "the node wants a key: say key_file")
            self._say("PROOF", 0, {"proof": self._proof("client", header["nonce"])})
            kind, _, header, _ = self._hear_before(deadline)
        elif self._key and kind == "WELCOME":
            raise Refused("CM0030", "the node did not prove that it has the key")
        if kind == "REFUSED":
            raise Refused(header["code"], header["detail"])
        self._heartbeat, self._lease = header["heartbeat_ms"] / 1000, header["lease_ms"] / 1000
        self._max_in_flight, self.capabilities = header["max_in_flight"], header["capabilities"]
        if header["resumed"]:
            # Under their numbers, which the session answers once each.
            self._unsent = list(self._outstanding)
        else:
            self._begin_anew(header["session"])

    def _begin_anew(self, session):
        """What was delivered in the old session is nobody's now; what is open is opened again."""
        before, self._outstanding, self._unsent = self._outstanding, OrderedDict(), []
        first = self._session is None
        self._session = session
        opening = {asked.of for asked in before.values() if asked.kind == "SUBSCRIBE"}
        for subscription in self._subscriptions:
            subscription._lost()
            if subscription not in opening:
                header = {name: getattr(subscription, name) for name in ("topic", "group", "credit")}
                self._enqueue(_Asked("SUBSCRIBE", header, of=subscription))
        for asked in before.values():
            if asked.kind in ("PUBLISH", "SUBSCRIBE", "CONTROL") or first:
                self._enqueue(asked)
            else:
                asked.answer.set_result((None, b""))

    def _proof(self, role, nonce):
        return hmac.new(self._key, f"{role}\0{nonce}".encode(), hashlib.sha256).hexdigest()

    def _say(self, kind, number, header, body=b""):
        below = next(iter(self._outstanding), self._next)
        frames = [VERSION, kind.encode(), f"{number} {below}".encode(), json.dumps(header).encode(), body]
        self._socket.send_multipart(frames, flags=zmq.DONTWAIT, copy=False)

    def _hear(self):
        version, kind, number, header, body = self._socket.recv_multipart(flags=zmq.DONTWAIT)
        if version != VERSION:
            raise Refused("CM0037", f"the node speaks {version!r}")
        return kind.decode(), int(number.split()[0]), json.loads(header), body

    def _hear_before(self, deadline):
        while time.monotonic() < deadline:
            if self._socket.poll(50):
                return self._hear()
            if self._is_disconnected():
                break
        raise Away(f"no node answers at {self._endpoint}")

    def _is_disconnected(self):
        gone = False
        while self._monitor.poll(0):
            recv_monitor_message(self._monitor)
            gone = True
        return gone

    def _reconnect(self):
        """Returns nothing when it is connected, and why when it gives up."""
        away, delay = time.monotonic(), 0.02
        while True:
            self._socket.disable_monitor()
            self._socket.close(0)
            self._drain_bell()
            try:
                return self._connect()
            except Refused as refused:
                if refused.code == "CM0030":
                    return refused
            except (Away, zmq.ZMQError):
                pass
            if time.monotonic() - away > self._patience:
                error = Away(f"the node at {self._endpoint} is away")
                while not self._commands.empty():
                    self._begin(self._commands.get())
                for number, asked in list(self._outstanding.items()):
                    if asked.kind == "PUBLISH":
                        del self._outstanding[number]
                        asked.answer.set_exception(error)
                if self._closing:
                    return error
            if self._closing and not any(asked.kind != "TAKE" for asked in self._outstanding.values()):
                return Refused("CM0014", "the client is closed")
            time.sleep(delay * random.uniform(0.5, 1))
            delay = min(delay * 2, 2.0)

    def _drain_bell(self):
        try:
            while self._heard_bell.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _serve(self):
        poller = zmq.Poller()
        for heard in (self._socket, self._monitor, self._heard_bell):
            poller.register(heard, zmq.POLLIN)
        heard_at, beat_at = time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            if now - heard_at > self._lease:
                raise _Broken
            if now >= beat_at:
                self._say("PING", 0, {})
                beat_at = now + self._heartbeat
            self._send()
            if self._closing:
                waiting = [asked for asked in self._outstanding.values() if asked.kind != "TAKE"]
                if not waiting and self._commands.empty():
                    self._say("BYE", 0, {})
                    self._socket.disable_monitor()
                    return self._socket.close()
            ready = dict(poller.poll(max(0, beat_at - time.monotonic()) * 1000))
            if self._heard_bell.fileno() in ready:
                self._drain_bell()
            while len(self._outstanding) < self._max_in_flight and not self._commands.empty():
                self._begin(self._commands.get())
            if self._socket in ready:
                heard_at = time.monotonic()
                try:
                    while True:
                        self._answered(*self._hear())
                except zmq.Again:
                    pass
            if self._monitor in ready and self._is_disconnected():
                raise _Broken

    def _begin(self, asked):
        if asked.of is not None and asked.kind == "SUBSCRIBE" and asked.of not in self._subscriptions:
            self._subscriptions.append(asked.of)
        elif asked.of is not None and asked.of._epoch != asked.header.pop("epoch", asked.of._epoch):
            return asked.answer.set_result((None, b""))
        self._enqueue(asked)

    def _enqueue(self, asked):
        self._outstanding[self._next] = asked
        self._unsent.append(self._next)
        self._next += 1

    def _send(self):
        later = []
        for number in self._unsent:
            asked = self._outstanding.get(number)
            if asked is None:
                continue
            header = asked.header
            if asked.of is not None and asked.kind != "SUBSCRIBE":
                if asked.of._number is None:
                    later.append(number)
                    continue
                header = {**header, "subscription": asked.of._number}
            self._say(asked.kind, number, header, asked.body)
        self._unsent = later

    def _answered(self, kind, number, header, body):
        if number == 0:
            if kind == "REFUSED":
                raise _Broken
            if kind == "ASK":
                # Operators pause and skip in engines; this is none.
                refused = {"code": "CM0037", "detail": "this client can be asked nothing"}
                self._say("ANSWER", 0, {"ask": header["ask"], "reply": {"refused": refused}})
            return
        asked = self._outstanding.pop(number, None)
        if asked is None:
            return
        if kind == "REFUSED":
            return asked.answer.set_exception(Refused(header["code"], header["detail"]))
        if kind == "SUBSCRIBED":
            asked.of._number = header["subscription"]
        if asked.kind == "UNSUBSCRIBE" and asked.of in self._subscriptions:
            self._subscriptions.remove(asked.of)
        asked.answer.set_result((header, body))


class _Broken(Exception):
    pass


def _pass_on(answer, to, change):
    try:
        to.set_result(change(answer.result()))
    except Exception as error:
        to.set_exception(error)


class Subscription:
    """A group's subscription. What was pulled is this client's until it is settled, or away for longer than its lease."""

    def __init__(self, node, topic, group, credit):
        self.node, self.topic, self.group, self.credit = node, topic, group, credit
        self._number = None
        self._epoch = 0

    def _lost(self):
        self._number = None
        self._epoch += 1

    def pull(self, max=1, wait=None):
        """Up to `max` deliveries: waits for the first, at most `wait` seconds, or as long as it takes."""
        deadline = None if wait is None else time.monotonic() + wait
        while True:
            left = TAKE_WAIT_MS if deadline is None else min(TAKE_WAIT_MS, (deadline - time.monotonic()) * 1000)
            asked = _Asked("TAKE", {"max": max, "wait_ms": int(left) if left > 0 else 0}, of=self)
            epoch = self._epoch
            self.node._ask(asked)
            header, body = asked.answer.result()
            if header and header["deliveries"]:
                deliveries, at = [], 0
                for given in header["deliveries"]:
                    end = at + given["size"]
                    deliveries.append(Delivery(self, epoch, given, body[at:end]))
                    at = end
                return deliveries
            if deadline is not None and time.monotonic() >= deadline:
                return []

    def settle(self, settlements, body=b"", epoch=None):
        """Returns whether they took effect: not, when the deliveries had gone to others."""
        asked = _Asked("SETTLE", {"settlements": settlements, "epoch": self._epoch if epoch is None else epoch}, body, self)
        self.node._ask(asked)
        return asked.answer.result()[0] is not None

    def backlog(self):
        """How many events are stored and in nobody's hands."""
        asked = _Asked("BACKLOG", {}, of=self)
        self.node._ask(asked)
        return (asked.answer.result()[0] or {}).get("events")

    def run(self, handler, attempts=5, backoff=0.1, stop=None, batch=16):
        """Gives every event to `handler(event, delivery)`, one after the other, and acks it when that returns.

        Retry, and any other exception, tries it again later, `attempts` times in all; then, or after Reject, it becomes a dead
        letter. An event that waits for its next attempt does not hold up the others. Ends when `stop` (a threading.Event) is set.
        """
        later, order = [], itertools.count()
        while stop is None or not stop.is_set():
            now = time.monotonic()
            wait = min(max(0.0, later[0][0] - now), 1.0) if later else 1.0
            due = [heapq.heappop(later)[2]] if later and later[0][0] <= now else []
            for delivery in due or self.pull(batch, wait):
                if stop is not None and stop.is_set():
                    delivery.give_back()
                    continue
                if delivery.epoch != self._epoch:
                    continue
                wait_until = delivery.due_in()
                if wait_until > 0:
                    heapq.heappush(later, (time.monotonic() + wait_until, next(order), delivery))
                    continue
                try:
                    handler(delivery.event, delivery)
                except Reject as rejected:
                    delivery.dead(str(rejected))
                except Exception as failed:
                    if delivery.attempt >= attempts:
                        delivery.dead(f"{type(failed).__name__}: {failed}")
                        continue
                    after = failed.after if isinstance(failed, Retry) and failed.after is not None else None
                    delay = backoff * 2 ** (delivery.attempt - 1) if after is None else after
                    if delivery.retry(delay):
                        heapq.heappush(later, (time.monotonic() + delay, next(order), delivery))
                else:
                    if not delivery.settled:
                        delivery.ack()

    def close(self):
        """Gives back what is not settled."""
        asked = _Asked("UNSUBSCRIBE", {"keep": False}, of=self)
        self.node._ask(asked)
        asked.answer.result()


class Delivery:
    """One handing-over of an event."""

    def __init__(self, subscription, epoch, given, data):
        self.subscription, self.epoch = subscription, epoch
        self.event = Event(given["event"], data)
        self.attempt, self.published = given["attempt"], given["published"]
        self.not_before = given.get("not_before")
        self.settled = False
        self._tag = {"position": given["position"], "incarnation": given["incarnation"]}

    def due_in(self):
        """Seconds until its back-off is over."""
        if self.not_before is None:
            return 0.0
        due = datetime.fromisoformat(self.not_before.replace("Z", "+00:00"))
        return (due - datetime.now(timezone.utc)).total_seconds()

    def _settle(self, settlement, body=b""):
        took_effect = self.subscription.settle([{**self._tag, **settlement}], body, self.epoch)
        self.settled = True
        return took_effect

    def ack(self, publish=(), mark=True):
        """Handled. `publish`: `(topic, Event)` that are published with it, in one step."""
        publish = [(*event, None)[:3] for event in publish]
        sent = [_sent(*event) for event in publish]
        return self._settle({"do": "ack", "publish": sent, "mark": mark}, b"".join(event.data for _, event, _ in publish))

    def retry(self, after=0.0):
        """Failed; it stays this client's, and the attempt is remembered wherever it is tried next."""
        self.not_before = _rfc3339(datetime.now(timezone.utc) + timedelta(seconds=after))
        took_effect = self._settle({"do": "defer", "attempts": self.attempt, "not_before": self.not_before})
        self.attempt += 1
        self.settled = False
        return took_effect

    def park(self, reason):
        """Set aside, until an operator takes it back."""
        return self._settle({"do": "park", "attempts": self.attempt, "reason": reason})

    def give_back(self):
        """Not handled: delivered again, to whoever asks; no attempt is counted."""
        return self._settle({"do": "return"})

    def dead(self, reason, code="CM0022"):
        """Given up: a dead letter on the topic `NAME.dead`, as every commute service makes it, and acked, in one step."""
        of = f"{self.subscription.group}@{self.subscription.topic}"
        letter = {"code": code, "reason": reason, "attempts": self.attempt, "subscription": of,
                  "topic": self.subscription.topic, "event": self.event.structured()}
        id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{of}/{self.event.id}/dead"))
        event = cloudevent(letter, "commute.dead_letter", source=self.subscription.group, id=id, key=self.event.key,
                           causationid=self.event.id, correlationid=self.event.attributes.get("correlationid", self.event.id))
        return self.ack(publish=[(self.subscription.topic + ".dead", event)])
