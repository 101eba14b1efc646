"""Bytes that no decent client sends: cut, pipelined, malformed, stalled."""

import base64
import os
import struct
import time

from engine import DEADLINE, Engine, curl, topic


def until_closed(connection):
    """Receives until the peer closes."""
    received = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not piece:
            return received
        received += piece


def statuses(received):
    """Finds the statuses of the answers in a stream."""
    lines = received.split(b"\r\n")
    return [int(line.split(b" ")[1]) for line in lines if line.startswith(b"HTTP/1.1 ")]


def post(name, payload, extra=""):
    return f"POST /topics/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(payload)}\r\n{extra}\r\n{payload}".encode()


def test_pipelining(engine):
    """Requests sent in one go are answered one after the other, in order, on one connection."""
    name = topic("pipelining")
    with engine.raw() as connection:
        get = f"GET /topics/{name}?transport=value HTTP/1.1\r\nHost: a\r\n"
        connection.sendall(
            post(name, "one") + post(name, "two") + f"{get}\r\n".encode() + post(name, "three")
            + f"{get}Connection: close\r\n\r\n".encode()
        )
        received = until_closed(connection)
    assert statuses(received) == [200] * 5
    assert received.index(b"\r\n\r\ntwo") < received.index(b"\r\n\r\nthree")
    polled = curl(f"{engine.url}/topics/{name}?since=earliest").json()
    assert [message["data"] for message in polled] == ["one", "two", "three"]


def test_cut_everywhere(engine):
    """A request is understood wherever the network cuts it, also byte by byte."""
    name = topic("cut")
    request = post(name, "payload") + (
        f"POST /topics/{name} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    ).encode()
    with engine.raw() as connection:
        for n in range(len(request)):
            connection.sendall(request[n : n + 1])
            time.sleep(0.0005)
        assert statuses(until_closed(connection)) == [200, 200]
    polled = curl(f"{engine.url}/topics/{name}?since=earliest").json()
    assert [message["data"] for message in polled] == ["payload", "abcde"]


def test_malformed_requests(engine):
    """Whatever is malformed or could be smuggled is refused, ends the connection, and publishes nothing."""
    name = topic("malformed")
    line = f"POST /topics/{name} HTTP/1.1\r\n"
    smuggled = f"0\r\n\r\n{line}Host: a\r\nContent-Length: 1\r\n\r\nx"
    for what, request in [
        ("no host", f"{line}Content-Length: 1\r\n\r\nx"),
        ("two hosts", f"{line}Host: a\r\nHost: b\r\nContent-Length: 1\r\n\r\nx"),
        ("both lengths", f"{line}Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
        ("two lengths", f"{line}Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        ("list of lengths", f"{line}Host: a\r\nContent-Length: 1, 1\r\n\r\nx"),
        ("signed length", f"{line}Host: a\r\nContent-Length: +1\r\n\r\nx"),
        ("negative length", f"{line}Host: a\r\nContent-Length: -1\r\n\r\nx"),
        ("huge length", f"{line}Host: a\r\nContent-Length: 99999999999999999999999\r\n\r\nx"),
        ("other encoding", f"{line}Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n{smuggled}"),
        ("chunked twice", f"{line}Host: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n{smuggled}"),
        ("chunked in 1.0", f"POST /topics/{name} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{smuggled}"),
        ("bad chunk size", f"{line}Host: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n"),
        ("signed chunk size", f"{line}Host: a\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
        ("huge chunk size", f"{line}Host: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
        ("long chunk", f"{line}Host: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
        ("bare LF", f"{line}Host: a\nContent-Length: 1\r\n\r\nx"),
        ("only LF", line.replace("\r", "") + "Host: a\nContent-Length: 1\n\nx"),
        ("bare CR", f"{line}Host: a\rContent-Length: 1\r\n\r\nx"),
        ("folded header", f"{line}Host: a\r\nX: a\r\n b\r\nContent-Length: 1\r\n\r\nx"),
        ("space before colon", f"{line}Host: a\r\nContent-Length : 1\r\n\r\nx"),
        ("no colon", f"{line}Host: a\r\nContent-Length\r\n\r\nx"),
        ("no version", f"POST /topics/{name}\r\nHost: a\r\n\r\n"),
        ("other version", f"POST /topics/{name} HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("connect", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("asterisk", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("binary", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("huge head", f"{line}Host: a\r\nX: {'x' * 100_000}\r\n\r\n"),
        ("many headers", f"{line}Host: a\r\n" + "X: y\r\n" * 1000 + "\r\n"),
    ]:
        with engine.raw() as connection:
            try:
                connection.sendall(request.encode("latin-1"))
            except (ConnectionResetError, BrokenPipeError):
                pass  # Refused before all of it was sent.
            got = statuses(until_closed(connection))
            # A reset may take the answer to a huge request with it; anything else is told.
            assert len(got) == 1 or (what in ("huge head", "many headers") and not got), (what, got)
            assert all(400 <= status < 600 for status in got), (what, got)
    assert curl(f"{engine.url}/topics/{name}?since=earliest").json() == [], "nothing was published"


def test_absolute_form(engine):
    """A target in absolute form, as to a proxy, is taken by its path."""
    name = topic("absolute")
    with engine.raw() as connection:
        connection.sendall(
            f"POST http://a/topics/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx".encode()
        )
        assert statuses(until_closed(connection)) == [200]


class WebSocket:
    """The least of a WebSocket, able to send what no library sends."""

    def __init__(self, engine, path="/ws"):
        self.connection = engine.raw()
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            piece = self.connection.recv(1)
            assert piece, received
            received += piece
        assert received.startswith(b"HTTP/1.1 101 "), received

    def send(self, first, payload=b"", masked=True, length=None):
        length = len(payload) if length is None else length
        if length < 126:
            head = struct.pack("!BB", first, length | (0x80 if masked else 0))
        elif length < 65536:
            head = struct.pack("!BBH", first, 126 | (0x80 if masked else 0), length)
        else:
            head = struct.pack("!BBQ", first, 127 | (0x80 if masked else 0), length)
        mask = b"\x01\x02\x03\x04" if masked else b""
        body = bytes(b ^ mask[n % 4] for n, b in enumerate(payload)) if masked else payload
        self.connection.sendall(head + mask + body)

    def close_code(self):
        """Reads frames to the end and returns the code of the close frame."""
        received = until_closed(self.connection)
        at = 0
        while at + 2 <= len(received):
            first, length = received[at], received[at + 1]
            assert length < 126, "short frames only"
            if first == 0x88:
                return struct.unpack("!H", received[at + 2 : at + 4])[0]
            at += 2 + length
        return None


def test_websocket_violations(engine):
    """Each broken rule of RFC 6455 is answered with the close code it names."""
    for what, code, frames in [
        ("unmasked", 1002, [(0x81, b"PING", False)]),
        ("reserved bit", 1002, [(0xC1, b"PING", True)]),
        ("reserved opcode", 1002, [(0x83, b"", True)]),
        ("reserved control opcode", 1002, [(0x8B, b"", True)]),
        ("continuation of nothing", 1002, [(0x80, b"x", True)]),
        ("message within a message", 1002, [(0x01, b"a", True), (0x81, b"b", True)]),
        ("fragmented control", 1002, [(0x09, b"", True)]),
        ("long control", 1002, [(0x89, b"x" * 126, True)]),
        ("close of one byte", 1002, [(0x88, b"x", True)]),
        ("close code 1005", 1002, [(0x88, struct.pack("!H", 1005), True)]),
        ("close code 999", 1002, [(0x88, struct.pack("!H", 999), True)]),
        ("close reason not UTF-8", 1007, [(0x88, struct.pack("!H", 1000) + b"\xff", True)]),
        ("text not UTF-8", 1007, [(0x81, b"PING \xff", True)]),
        ("text cut within a letter", 1007, [(0x81, b"PING \xc3", True)]),
        ("surrogate", 1007, [(0x81, b"PING \xed\xa0\x80", True)]),
    ]:
        ws = WebSocket(engine)
        try:
            for first, payload, masked in frames:
                ws.send(first, payload, masked)
        except (ConnectionResetError, BrokenPipeError):
            pass
        got = ws.close_code()
        assert got == code, (what, got)
        ws.connection.close()


def test_websocket_lengths(engine):
    """A length that is announced too large is refused at once, without waiting for the bytes."""
    for length in [70_000, 1 << 32, 1 << 62]:
        ws = WebSocket(engine)
        ws.send(0x82, b"", length=length)
        assert ws.close_code() == 1009, length
        ws.connection.close()


def test_bad_handshakes(engine):
    """A handshake that breaks a rule is refused with 400 (426 for another version), and gets no WebSocket."""
    good = {
        "Host": "a",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for what, changes, expected in [
        ("no key", {"Sec-WebSocket-Key": None}, (400,)),
        ("short key", {"Sec-WebSocket-Key": "c2hvcnQ="}, (400,)),
        ("no base64", {"Sec-WebSocket-Key": "!!!!IHNhbXBsZSBub25jZQ=="}, (400,)),
        ("version 8", {"Sec-WebSocket-Version": "8"}, (400, 426)),
        ("no connection", {"Connection": None}, (400, 426)),
        ("no upgrade", {"Upgrade": None}, (400, 426)),
    ]:
        headers = {**good, **changes}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
        with engine.raw() as connection:
            connection.sendall(f"GET /ws HTTP/1.1\r\n{head}\r\n".encode())
            connection.settimeout(DEADLINE)
            received = connection.recv(4096)
            got = statuses(received)
            assert got and got[0] in expected, (what, received)


def test_stalled_peers_are_closed(_):
    """A peer that sends nothing, or half a head, or half a body, is closed after its time; others are served meanwhile."""
    with Engine("--shards", "1", "--handshake-timeout", "500ms", "--header-timeout", "500ms") as engine:
        with engine.raw() as silent, engine.raw() as half:
            half.sendall(b"GET /topics/a HTTP/1.1\r\nHo")
            engine.publish(topic("meanwhile"), "x")
            until_closed(silent)
            received = until_closed(half)
            assert statuses(received) in ([], [408]), received


def test_half_closed(engine):
    """A client that ends its own direction after the request still gets the answer."""
    import socket

    with engine.raw() as connection:
        connection.sendall(post(topic("half"), "x"))
        connection.shutdown(socket.SHUT_WR)
        assert statuses(until_closed(connection)) == [200]


def test_a_slow_reader_costs_only_itself(engine):
    """A subscriber that does not read gets a gap or is closed, and the others get everything in the meantime."""
    name = topic("slow")
    slow = WebSocket(engine)
    slow.send(0x81, f"SUB {name} since=live id=s".encode())
    with engine.line() as fast, engine.line() as publisher:
        fast.send(f"SUB {name} since=live id=f")
        assert fast.recv(timeout=DEADLINE).startswith("OK f")
        payload = "x" * 32768
        for n in range(200):
            publisher.send(f"PUB {name}\n{n} {payload}")
            got = fast.recv(timeout=DEADLINE)
            assert got.split("\n", 1)[1].startswith(f"{n} "), got[:80]
    slow.connection.close()
