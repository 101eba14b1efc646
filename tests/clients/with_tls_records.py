"""TLS that no decent client speaks: garbage, cut, forged, reordered and oversized records, handshakes that never end."""

import contextlib
import json
import os
import socket
import ssl
import struct
import time

from certificates import Shown
from engine import DEADLINE, curl, eventually, topic
from with_tls import VERSIONS, get, handshake, secure, trusting

HANDSHAKE, DATA, ALERT = 22, 23, 21
# RFC 8446 appendix B.2
UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW = 10, 20, 22
NAMES = {
    UNEXPECTED_MESSAGE: "UNEXPECTED_MESSAGE",
    BAD_RECORD_MAC: "BAD_RECORD_MAC",
    RECORD_OVERFLOW: "RECORD_OVERFLOW",
}


class Hand:
    """A TLS client whose records are carried by hand: what it has sealed can be cut, damaged, repeated, kept."""

    def __init__(self, engine, version="1.3"):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = trusting(engine.authority, version)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.connection = socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def shake(self):
        handshake(self.tls, self.connection, self.incoming, self.outgoing)
        return self

    def seal(self, text):
        """Returns the records of a text."""
        self.tls.write(text if isinstance(text, bytes) else text.encode())
        return self.outgoing.read()

    def read(self, count):
        """Receives until so many bytes of text have come."""
        text = b""
        while len(text) < count:
            try:
                text += self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                piece = self.connection.recv(1 << 16)
                assert piece, f"it ended after {text!r}"
                self.incoming.write(piece)
        return text

    def end(self):
        """Receives to the end; returns the text that came, and the name of the alert that ended it."""
        text, eof = b"", False
        while True:
            try:
                piece = self.tls.read(1 << 16)
                if not piece:
                    return text, "close_notify"
                text += piece
            except ssl.SSLWantReadError:
                if eof:
                    return text, None
                with contextlib.suppress(ConnectionResetError):
                    piece = self.connection.recv(1 << 16)
                    self.incoming.write(piece)
                    eof = not piece
                    continue
                eof = True
            except ssl.SSLZeroReturnError:
                return text, "close_notify"
            except ssl.SSLError as error:
                return text, error.reason


def closed(connection):
    """Waits until the peer has closed; returns what came before."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def hello(engine):
    """Returns the first flight of a client."""
    outgoing = ssl.MemoryBIO()
    tls = trusting(engine.authority).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def still_serves(engine):
    assert curl(engine.tls_url, "--cacert", str(engine.authority.certificate)).status == 200


def test_what_is_no_handshake(_):
    """Whatever begins like no handshake, or breaks off in its midst, ends and costs nobody else; nothing waits longer than a head may."""
    with secure("--header-timeout", "2s") as engine:
        first = hello(engine)
        grown = bytearray(first)
        grown[3:5] = struct.pack(">H", len(first) - 5 + 1)
        for what, sent in {
            "noise": os.urandom(4_000).replace(b"\x16", b"\x00"),
            "zeros": bytes(1_000),
            "SSLv2": b"\x80\x2e\x01\x03\x01" + bytes(50),
            "a line": b"hello\r\n\r\n",
            "an oversized record": b"\x16\x03\x01" + struct.pack(">H", (1 << 14) + 2049) + bytes(100),
            "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
            "data first": b"\x17\x03\x03\x00\x20" + bytes(32),
            "keys changed first": b"\x14\x03\x03\x00\x01\x01" * 3,
            "nonsense in a handshake": b"\x16\x03\x01\x00\x40" + b"\xff" * 64,
            "a hello with damage": first[:60] + bytes(len(first) - 60),
            "an endless hello": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes((1 << 14) - 4) + (b"\x16\x03\x01\x40\x00" + bytes(1 << 14)) * 4,
            "two hellos": first + first,
            "empty records": b"\x16\x03\x03\x00\x00" * 1_000,
        }.items():
            with socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE) as connection:
                start = time.monotonic()
                with contextlib.suppress(ConnectionError):
                    connection.sendall(sent)
                received = closed(connection)
                assert not received.startswith(b"HTTP/1.1 2"), (what, received)
                assert time.monotonic() - start < 5, what
        # Those that wait for more: cut anywhere, or announced and never sent.
        waiting = [socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE) for _ in range(5)]
        for connection, sent in zip(waiting, [b"", first[:1], first[:4], first[:-1], bytes(grown)], strict=True):
            connection.sendall(sent)
        still_serves(engine)
        start = time.monotonic()
        for connection in waiting:
            closed(connection)
            connection.close()
        assert time.monotonic() - start < 6, "they end soon after header-timeout"
        with socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE) as connection:
            connection.sendall(first[:-10])
            connection.shutdown(socket.SHUT_WR)
            closed(connection)
        eventually(lambda: engine.total("connections") == 0, "nothing is left of them")
        still_serves(engine)


def test_a_handshake_that_never_ends(_):
    """A client that says a byte of its handshake now and then has header-timeout for all of it, also if the engine waits for the rest."""
    with secure("--header-timeout", "2s") as engine:
        for begun in (False, True):
            sent = hello(engine)
            with socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE) as connection:
                start = time.monotonic()
                if begun:
                    connection.sendall(sent)
                    assert connection.recv(1 << 16).startswith(b"\x16\x03\x03"), "it has answered"
                    sent = b"\x17\x03\x03\x00\x50" + bytes(100)
                connection.settimeout(0.2)
                ended = False
                for byte in sent:
                    # A byte every 200 ms: the pace of the peer, not a wait for something.
                    try:
                        connection.sendall(bytes([byte]))
                        ended = connection.recv(1 << 16) == b""
                    except TimeoutError:
                        pass
                    except ConnectionError:
                        ended = True
                    if ended:
                        break
                assert ended and 1.5 < time.monotonic() - start < 8, (begun, ended, time.monotonic() - start)
        still_serves(engine)


def test_cut_everywhere(_):
    """A handshake and requests behind it are understood wherever the network cuts them, also byte by byte."""
    with secure() as engine:
        name = topic("cut")
        engine.publish(name, "whole")
        for version in VERSIONS:
            with Hand(engine, version) as hand:
                send_all = hand.connection.sendall

                class Cut:
                    """Passes bytes on one by one."""

                    recv = staticmethod(hand.connection.recv)

                    @staticmethod
                    def sendall(data):
                        for at in range(len(data)):
                            send_all(data[at : at + 1])

                handshake(hand.tls, Cut, hand.incoming, hand.outgoing)
                Cut.sendall(hand.seal(get(name)) + hand.seal(get(name, "Connection: close")))
                text, ended = hand.end()
                assert (text.count(b"whole"), ended) == (2, "close_notify"), (version, text, ended)


def test_a_request_in_many_records(_):
    """A request may come in records of a byte each, and many requests in one record; records without text mean nothing."""
    with secure() as engine:
        name = topic("records")
        for version in VERSIONS:
            with Hand(engine, version).shake() as hand:
                body = f"POST /topics/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300\r\n\r\n" + "x" * 300
                hand.connection.sendall(b"".join(hand.seal(letter) for letter in body))
                assert hand.read(15).startswith(b"HTTP/1.1 200 OK")
                hand.connection.sendall(hand.seal(get(name) * 20 + get(name, "Connection: close")))
                text, ended = hand.end()
                assert (text.count(b"x" * 300), ended) == (21, "close_notify"), (version, ended)


def test_padding_and_small_fragments(_):
    """Padded records, and clients that send small fragments, are understood."""
    with secure() as engine:
        name = topic("padded")
        engine.publish(name, "here")
        for arguments in (["-tls1_3", "-record_padding", "4096"], ["-max_send_frag", "512", "-split_send_frag", "512"], ["-tls1_2", "-maxfraglen", "512"]):
            with Shown(engine, "-ign_eof", *arguments, authority=engine.authority) as shown:
                shown.types(get(name, f"X-Long: {'y' * 3_000}", "Connection: close"))
                text, _status = shown.end()
                assert "\r\n\r\nhere" in text, (arguments, text[-2_000:])


def test_forged_records(_):
    """A record that was damaged, repeated, left out, exchanged or made too long ends its connection with the alert for that."""
    with secure() as engine:
        for version in VERSIONS:
            name = topic("forged")
            post = f"POST /topics/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"

            def damaged(record, at):
                return record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]

            empty_13 = b"\x17\x03\x03\x00\x10" + bytes(16)
            for what, forge, alert in [
                ("damage in the text", lambda one, two: damaged(one, 20), BAD_RECORD_MAC),
                ("damage in the tag", lambda one, two: damaged(one, -1 % len(one)), BAD_RECORD_MAC),
                ("repeated", lambda one, two: one + one, BAD_RECORD_MAC),
                ("left out", lambda one, two: two, BAD_RECORD_MAC),
                ("exchanged", lambda one, two: two + one, BAD_RECORD_MAC),
                ("too short for a tag", lambda one, two: b"\x17\x03\x03\x00\x05hello", BAD_RECORD_MAC),
                ("not sealed at all", lambda one, two: b"\x17\x03\x03" + struct.pack(">H", len(post)) + post.encode(), BAD_RECORD_MAC),
                ("nothing but a tag", lambda one, two: empty_13, BAD_RECORD_MAC),
                ("too long", lambda one, two: b"\x17\x03\x03" + struct.pack(">H", (1 << 14) + 2049) + bytes(50), RECORD_OVERFLOW),
                ("an alert that is not sealed", lambda one, two: b"\x15\x03\x03\x00\x02\x01\x00", None),
                ("another hello", lambda one, two: hello(engine), None),
                ("keys changed anew", lambda one, two: b"\x14\x03\x03\x00\x01\x01", None),
                ("plain HTTP behind TLS", lambda one, two: post.encode(), None),
            ]:
                before = engine.total("tls_broken")
                with Hand(engine, version).shake() as hand:
                    one, two = hand.seal(post), hand.seal(post)
                    hand.connection.sendall(forge(one, two))
                    _text, ended = hand.end()
                    if alert is not None:
                        assert ended is not None and NAMES[alert] in ended, (version, what, ended)
                    assert ended != "close_notify", (version, what)
                eventually(lambda: engine.total("tls_broken") == before + 1, f"{version} {what} is counted")
            # Only what stood before the forgery, unharmed, was heard: the first of the two that were the same.
            polled = curl(f"{engine.url}/topics/{name}?since=earliest").json()
            assert len(polled) == 1, (version, polled)
            still_serves(engine)


def test_who_resets(_):
    """Clients that vanish in a handshake, in a record or in an answer cost nobody anything, and leave nothing behind."""
    with secure() as engine:
        name = topic("reset")
        engine.publish(name, "z" * 60_000)
        reset = struct.pack("ii", 1, 0)
        for version in VERSIONS:
            for _again in range(20):
                with socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE) as connection:
                    connection.sendall(hello(engine))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                for cut in (10, None):
                    with Hand(engine, version).shake() as hand:
                        hand.connection.sendall((hand.seal(get(name) * 20))[:cut])
                        hand.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        eventually(lambda: engine.total("connections") == 0, "all of them are gone")
        still_serves(engine)


def test_a_storm_of_handshakes(_):
    """While hundreds begin handshakes and do not go on, a message is delivered within a second, and who comes is served."""
    with secure("--header-timeout", "5s") as engine:
        name = topic("storm")
        with Hand(engine).shake() as reader:
            reader.connection.sendall(reader.seal(f"GET /topics/{name}?transport=stream&since=live HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            assert reader.read(15).startswith(b"HTTP/1.1 200 OK")
            eventually(lambda: engine.total("subscriptions") == 1, "it subscribes")
            first = hello(engine)
            crowd = []
            try:
                for number in range(600):
                    connection = socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE)
                    connection.sendall(first)
                    crowd.append(connection)
                    if number % 100 == 99:
                        start = time.monotonic()
                        engine.publish(name, f"in the storm {number}")
                        text = b""
                        while f"in the storm {number}".encode() not in text:
                            text += reader.read(1)
                        assert time.monotonic() - start < 1, number
                still_serves(engine)
            finally:
                for connection in crowd:
                    connection.close()
        eventually(lambda: engine.total("connections") == 0, "nothing is left of them")
        assert json.loads(engine.admin("/stats")[1])["total"]["tls_handshakes"] >= 2
