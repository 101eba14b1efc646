"""Compression: permessage-deflate on WebSockets, gzip on HTTP streams."""

import base64
import json
import os
import random
import struct
import subprocess
import threading
import zlib

import httpx
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from engine import DEADLINE, Engine, curl, eventually, message, topic
from with_streams import Stream, events

TAIL = b"\x00\x00\xff\xff"


def offer(server_bits=None, client_bits=None, **options):
    """An extension for the `websockets` library."""
    options = {"server_max_window_bits": server_bits, "client_max_window_bits": client_bits, **options}
    return {"compression": None, "extensions": [ClientPerMessageDeflateFactory(**options)]}


def text_of(bytes_about, seed=1):
    """Text that compresses well, and looks like data."""
    dice = random.Random(seed)
    rows = []
    while sum(map(len, rows)) < bytes_about:
        rows.append(json.dumps({"symbol": dice.choice(["ABC", "DEF", "GHI"]), "price": dice.randrange(10_000) / 100}))
    return "\n".join(rows)


def raw_websocket(engine, path, offers):
    """Opens a WebSocket by hand and returns the connection, the answer's head, and what came behind it."""
    connection = engine.raw()
    key = base64.b64encode(os.urandom(16)).decode()
    lines = "".join(f"Sec-WebSocket-Extensions: {offers}\r\n" for offers in offers)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n{lines}\r\n".encode()
    )
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(4096)
        assert piece, received
        received += piece
    head, rest = received.split(b"\r\n\r\n", 1)
    return connection, head.decode(), rest


def frame(first_byte, payload):
    """A client's frame, masked with zeros."""
    length = len(payload)
    if length < 126:
        header = struct.pack("!BB", first_byte, 0x80 | length)
    elif length < 65536:
        header = struct.pack("!BBH", first_byte, 0x80 | 126, length)
    else:
        header = struct.pack("!BBQ", first_byte, 0x80 | 127, length)
    return header + bytes(4) + payload


def next_frame(connection, rest=b""):
    """Reads one frame of the server; returns its first byte, its payload, and what came behind it."""
    def need(count):
        nonlocal rest
        while len(rest) < count:
            piece = connection.recv(65536)
            assert piece, f"closed in the middle of a frame: {rest!r}"
            rest += piece
    need(2)
    length, header = rest[1], 2
    if length == 126:
        need(4)
        length, header = struct.unpack("!H", rest[2:4])[0], 4
    elif length == 127:
        need(10)
        length, header = struct.unpack("!Q", rest[2:10])[0], 10
    need(header + length)
    return rest[0], rest[header : header + length], rest[header + length :]


def packed(data, bits=-15, flush=zlib.Z_SYNC_FLUSH):
    """Compresses a message as RFC 7692 says."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, bits)
    return (compressor.compress(data) + compressor.flush(flush)).removesuffix(TAIL)


def test_clients_of_every_window_get_every_message(engine):
    """Subscribers with windows of 9 to 15 bits, and without compression, get the same messages, small and large, text and
    binary, as they were published."""
    name = topic("windows")
    ways = [{"compression": None}, {"compression": "deflate"}, offer(), offer(9, 9), offer(10), offer(12, 12), offer(14), offer(15)]
    payloads = ["small", text_of(2_000), os.urandom(5_000), text_of(40_000), "", text_of(60_000).encode() + b"\xff"]
    subscribers = [engine.ws(f"/topics/{name}?since=live", **way) for way in ways]
    lines = [engine.line(**way) for way in ways]
    for ws in lines:
        ws.send(f"SUB {name} since=live id=1")
        assert ws.recv(timeout=DEADLINE).startswith("OK 1")
    before = engine.stats()["total"]["compressed"]
    for payload in payloads:
        engine.publish(name, payload)
    for ws in subscribers:
        assert [ws.recv(timeout=DEADLINE) for _ in payloads] == payloads
    for ws in lines:
        got = [message(ws.recv(timeout=DEADLINE))[3] for _ in payloads]
        assert got == payloads
    # Three messages are worth it, in three windows of two shapes each, on one or two shards.
    compressed = engine.stats()["total"]["compressed"] - before
    assert 3 * 3 * 2 <= compressed <= 2 * 3 * 3 * 2, compressed
    for ws in subscribers + lines:
        ws.close()


def test_what_is_compressed_on_the_wire(engine):
    """Messages from the size of the setting on travel compressed and shorter, smaller ones as they are; replays, which each
    reader has to itself, as they are."""
    name = topic("wire")
    connection, head, rest = raw_websocket(engine, f"/topics/{name}?since=live", ["permessage-deflate; client_max_window_bits"])
    assert "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n" in head + "\r\n"
    eventually(lambda: engine.stats()["total"]["subscriptions"], "the subscription stands")
    for payload in ["x" * 1023, "x" * 1024, text_of(5_000)]:
        engine.publish(name, payload)
        first, body, rest = next_frame(connection, rest)
        if len(payload) < 1024:
            assert (first, body) == (0x81, payload.encode())
        else:
            assert first == 0xC1 and len(body) < len(payload) / 2, (first, len(body))
            assert zlib.decompressobj(-15).decompress(body + TAIL) == payload.encode()
    connection.close()
    connection, _, rest = raw_websocket(engine, f"/topics/{name}?since=-1", ["permessage-deflate"])
    first, body, rest = next_frame(connection, rest)
    assert (first, body) == (0x81, payload.encode())
    connection.close()


def test_clients_send_compressed_messages(engine):
    """Compressed publications arrive as they were meant: whole, in fragments with a ping between them, empty, with a last
    block, and through the line protocol."""
    name = topic("upstream")
    connection, head, rest = raw_websocket(engine, "/echo", ["permessage-deflate; server_max_window_bits=12"])
    assert "server_max_window_bits=12" in head
    data = text_of(20_000).encode()
    body = packed(data)
    with_last_block = zlib.compressobj(9, zlib.DEFLATED, -15)
    with_last_block = with_last_block.compress(data) + with_last_block.flush() + b"\x00"
    rows = [
        ([body], data),
        ([body[:100], b"", body[100:]], data),
        ([bytes([byte]) for byte in packed(b"Hello")], b"Hello"),
        ([with_last_block], data),
        ([b"\x00"], b""),
    ]
    for pieces, expected in rows:
        for place, piece in enumerate(pieces):
            first = (0x41 if place == 0 else 0) | (0x80 if place == len(pieces) - 1 else 0)
            connection.sendall(frame(first, piece) + (frame(0x89, b"p") if place == 0 else b""))
        pongs, answer = 0, None
        while answer is None or pongs == 0:
            first, got, rest = next_frame(connection, rest)
            if first == 0x8A:
                pongs += 1
            else:
                answer = zlib.decompressobj(-12).decompress(got + TAIL) if first & 0x40 else got
        assert answer == expected, (len(answer), len(expected))
    connection.close()
    with engine.line(compression="deflate") as ws, engine.ws(f"/topics/{name}?since=live") as reader:
        ws.send(f"PUB {name} id=1\n{text_of(30_000)}")
        assert ws.recv(timeout=DEADLINE).startswith("OK 1 ")
        assert reader.recv(timeout=DEADLINE) == text_of(30_000)


def test_lying_compressed_messages(engine):
    """A bomb, nonsense, a message that stops within a block, text that is not UTF-8 after all, and compression that was not
    agreed on end the connection with the code that says so; the engine and its memory stay."""
    bomb = packed(bytes(64 << 20))
    assert len(bomb) < 66_000
    deflate = ["permessage-deflate"]
    rows = [
        ("bomb", deflate, frame(0xC2, bomb), 1009),
        ("nonsense", deflate, frame(0xC2, b"\xff" * 50), 1007),
        ("cut", deflate, frame(0xC2, packed(os.urandom(500))[:300]), 1007),
        ("nothing", deflate, frame(0xC2, b""), 1007),
        ("not text", deflate, frame(0xC1, packed(b"\xff\xfe" * 10)), 1007),
        ("not agreed", [], frame(0xC2, packed(b"x")), 1002),
        ("on a ping", deflate, frame(0xC9, b"x"), 1002),
        ("on a continuation", deflate, frame(0x42, b"x") + frame(0xC0, b"x"), 1002),
    ]
    for what, offers, sent, code in rows:
        connection, _, rest = raw_websocket(engine, "/echo", offers)
        connection.sendall(sent)
        first, body, _ = next_frame(connection, rest)
        assert (first, struct.unpack("!H", body[:2])[0]) == (0x88, code), (what, first, body)
        connection.close()
    rss = int(next(line for line in open(f"/proc/{engine.process.pid}/status") if line.startswith("VmRSS")).split()[1])
    assert rss < 512 << 10, f"{rss} KiB"


def test_offers_that_cannot_be_accepted(engine):
    """Without an acceptable offer the WebSocket works uncompressed; with `--compress-from off` none is accepted, and no stream
    is compressed."""
    name = topic("declined")
    for offers in [["permessage-deflate; server_max_window_bits=8"], ["permessage-bzip2"], ["permessage-deflate; odd=1"]]:
        connection, head, rest = raw_websocket(engine, f"/topics/{name}?since=live", offers)
        assert "extensions" not in head.lower(), head
        connection.close()
    with Engine("--compress-from", "off") as plain:
        connection, head, rest = raw_websocket(plain, f"/topics/{name}?since=live", ["permessage-deflate"])
        assert "extensions" not in head.lower(), head
        plain.publish(name, text_of(5_000))
        first, body, _ = next_frame(connection, rest)
        assert (first, body.decode()) == (0x81, text_of(5_000))
        connection.close()
        stream = Stream(plain, f"/topics/{name}?transport=sse", {"Accept-Encoding": "gzip"})
        assert stream.answer.headers["Content-Encoding"] is None
        stream.until(lambda data: b"symbol" in data)
        stream.close()


def test_gzip_streams(engine):
    """SSE, NDJSON, multipart and forever frame come compressed for clients that accept it, every message at once when it is
    published; snapshot, small and large messages, gaps of `conflate` and heartbeats are one gzip stream."""
    for transport in ["sse", "stream", "multipart", "forever-frame"]:
        name = topic(f"gzip-{transport}")
        engine.publish(name, "the snapshot")
        stream = Stream(engine, f"/topics/{name}?transport={transport}", {"Accept-Encoding": "br, gzip;q=0.8"})
        assert stream.answer.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in stream.answer.headers.get_all("Vary")
        unzip, plain, size = zlib.decompressobj(31), b"", 0
        payloads = ["small", text_of(3_000), text_of(60_000, 2), "last-one"]
        for payload in ["the snapshot", *payloads]:
            if payload != "the snapshot":
                engine.publish(name, payload)
            end = json.dumps(payload[-12:])[1:-1].replace("</", "<\\/").encode()
            wanted = [end, payload[-12:].encode()]
            while not any(word in plain for word in wanted):
                piece = stream.answer.read1(1 << 16)
                assert piece, f"{transport} ended"
                size += len(piece)
                plain += unzip.decompress(piece)
        assert not unzip.unused_data
        assert size < len(plain) / 2, (transport, size, len(plain))
        if transport == "sse":
            assert [data for _, _, data, _ in events(plain)[0]] == ["the snapshot", *payloads]
        stream.close()


def test_gzip_with_curl_and_httpx(engine):
    """curl --compressed and httpx, which asks for gzip by itself, read a stream to its end, and go on after it."""
    name = topic("gzip-clients")
    # All that is published meanwhile fits into the history, however slow the machine: no gap is due.
    with Engine("--stream-seconds", "3", "--history-messages", "5000", "--history-bytes", "16M") as short:
        for number in range(20):
            short.publish(name, f"{number} {text_of(1_500, number)}")
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--compressed", "--max-time", "20", "-N",
             f"{short.url}/topics/{name}?transport=sse&since=earliest"],
            capture_output=True, timeout=30,
        )
        assert done.returncode == 0, done.stderr
        found, last = events(done.stdout)
        assert [data.split(" ")[0] for _, _, data, _ in found] == [str(number) for number in range(20)]
        stop = threading.Event()

        def publish():
            number = 20
            while not stop.wait(0.05):
                short.publish(name, f"{number} {text_of(1_500, number)}")
                number += 1

        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            seen, rounds = 19, 0
            with httpx.Client(timeout=DEADLINE) as client:
                while rounds < 2:
                    with client.stream("GET", f"{short.url}/topics/{name}?transport=sse", headers={"Last-Event-ID": last}) as answer:
                        assert answer.headers["Content-Encoding"] == "gzip"
                        data = b"".join(answer.iter_bytes())
                    found, last = events(data)
                    for _, event, data, _ in found:
                        assert (event, data.split(" ")[0]) == ("message", str(seen + 1)), (event, data[:200])
                        seen += 1
                    rounds += 1
            assert seen > 19
        finally:
            stop.set()
            publisher.join()


def test_http10_and_head_are_not_compressed(engine):
    """An HTTP/1.0 peer and HEAD get no gzip stream, whatever they accept."""
    name = topic("gzip-not")
    with engine.raw() as connection:
        connection.sendall(f"GET /topics/{name}?transport=sse HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        head = b""
        while b"retry:" not in head:
            head += connection.recv(4096)
        assert b"Content-Encoding" not in head
    answer = curl(f"{engine.url}/topics/{name}?transport=sse", "--head", "-H", "Accept-Encoding: gzip")
    assert answer.status == 200 and "content-encoding" not in answer.headers
