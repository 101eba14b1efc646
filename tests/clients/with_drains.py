"""Shutdowns that take their time: many connections of all transports, told one after the other, and served until then."""

import collections
import re
import select
import signal
import time

from engine import DEADLINE, Engine, curl, eventually, topic

WEBSOCKET = (
    "GET {} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GET = "GET {} HTTP/1.1\r\nHost: h\r\n\r\n"
# How each asks, how it knows that it stands, and how it is told when to come back.
WORDS = rb"; try again in (\d+)s"
KINDS = {
    "line": (WEBSOCKET.format("/ws"), b"HI corecast.v1 ", WORDS),
    "raw": (WEBSOCKET.format("/topics/{}?since=live"), b"101 Switching", WORDS),
    "sse": (GET.format("/topics/{}?since=live&transport=sse"), b"retry: ", rb"\nretry: (\d+)000\n\nevent: corecast-refused\n"),
    "ndjson": (GET.format("/topics/{}?since=live&transport=stream"), b"200 OK", WORDS),
    "multipart": (GET.format("/topics/{}?since=live&transport=multipart"), b"200 OK", WORDS),
    "long-poll": (GET.format("/topics/{}/quiet?since=live&transport=long-poll&wait=60"), b"", rb"\r\nRetry-After: (\d+)\r\n"),
}
EACH = 84


def frame(text):
    """Makes a text frame as clients send it, with a mask of zeroes."""
    data = text.encode()
    assert len(data) < 126
    return bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data


class Client:
    """A connection that only reads."""

    def __init__(self, engine, kind, name):
        asks, self.stands, self.words = KINDS[kind]
        self.kind, self.got, self.told_at, self.after = kind, b"", None, None
        self.socket = engine.raw()
        self.socket.sendall(asks.format(name).encode())
        if kind == "line":
            self.socket.sendall(frame(f"SUB {name} since=live id=s"))

    def read(self):
        """Takes what there is; says whether it goes on."""
        data = self.socket.recv(1 << 16)
        self.got += data
        told = re.search(self.words, self.got)
        if told and self.told_at is None:
            self.told_at, self.after = time.monotonic(), int(told.group(1))
        return data != b""


class Crowd:
    """All of them."""

    def __init__(self, engine, name):
        self.epoll = select.epoll()
        self.clients = {}
        for _ in range(EACH):
            for kind in KINDS:
                client = Client(engine, kind, name)
                self.clients[client.socket.fileno()] = client
                self.epoll.register(client.socket.fileno(), select.EPOLLIN)
        self.standing = dict(self.clients)

    def read(self, seconds):
        """Reads whatever comes within that time, or until all have ended."""
        end = time.monotonic() + seconds
        while self.standing and (left := end - time.monotonic()) > 0:
            for descriptor, _ in self.epoll.poll(left):
                if not self.clients[descriptor].read():
                    self.epoll.unregister(descriptor)
                    self.standing.pop(descriptor).socket.close()


def test_closes_are_spread(_):
    """With `drain-time`, 500 connections of all transports are told one after the other, each its own time to come back; until then they get
    what is published, once, and whoever comes new is told `draining`."""
    name = topic("drain")
    with Engine("--shards", "2", "--drain-time", "3s") as engine:
        crowd = Crowd(engine, name)
        stand = lambda: crowd.read(0.05) or all(client.stands in client.got for client in crowd.clients.values())
        eventually(stand, "all stand")
        # Two of the kinds say nothing once they are subscribed.
        eventually(lambda: engine.total("subscriptions") == len(crowd.clients), "all are subscribed")
        engine.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        published = []
        refused = None
        while crowd.standing and time.monotonic() < begun + DEADLINE:
            lines = [client for client in crowd.standing.values() if client.kind == "line" and client.told_at is None]
            if lines:
                published.append(time.monotonic())
                try:
                    lines[-1].socket.sendall(frame(f"PUB {name}\n<{len(published)}>"))
                except OSError:
                    pass
            crowd.read(0.1)
            if refused is None and time.monotonic() > begun + 0.5:
                refused = curl(f"{engine.url}/topics/{name}")
                assert engine.admin("/readyz")[0] == 503
        assert not crowd.standing, collections.Counter(client.kind for client in crowd.standing.values())
        assert engine.process.wait(DEADLINE) == 0, engine.errors
        assert refused.status == 503 and int(refused.headers["retry-after"]) >= 2, refused.headers
        clients = list(crowd.clients.values())
        untold = [(client.kind, client.got[-200:]) for client in clients if client.told_at is None]
        assert not untold, untold[:3]
        times = sorted(client.told_at - begun for client in clients)
        fullest = max(sum(1 for at in times if start <= at < start + 0.1) for start in times)
        assert fullest * 3 <= len(times), f"{fullest} of {len(times)} in a tenth of a second"
        assert times[-1] > 1.5, times[-1]
        delays = collections.Counter(client.after for client in clients)
        assert len(delays) > 4 and min(delays) >= 1 and max(delays) <= 10, delays
        # What was published a moment before somebody was told came, and nothing came twice. One whose publisher was told just then is nobody's.
        readers = [client for client in clients if client.kind != "long-poll"]
        of = {number: b"<%d>" % number for number in range(1, len(published) + 1)}
        seen = {number for number, mark in of.items() if any(mark in client.got for client in readers)}
        assert len(seen) * 2 > len(published), (seen, len(published))
        for client in readers:
            for number, mark in of.items():
                times = client.got.count(mark)
                due = number in seen and published[number - 1] + 0.1 < client.told_at
                assert times <= 1 and (times == 1 or not due), (client.kind, number, times)
