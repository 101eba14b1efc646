"""Peers that break the rules: bytes of the fuzz corpora, cut heads, frames that are none, garbage instead of TLS."""

import asyncio
import os
import pathlib
import random
import ssl
import struct

from wire import BROKEN, Closed, Peer, Refused, WebSocket, masked

CORPUS = pathlib.Path(__file__).parent.parent.parent / "fuzz" / "corpus"
# A peer that says something half has four seconds (header-timeout), one that is idle or in the middle of a message six (request-timeout);
# the close of a WebSocket may take two more, and a stream that was asked for in order seven.
SECONDS = 20.0


def corpus(name):
    return [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]


async def heads(site, secure):
    """Heads of the corpus, whole or cut anywhere."""
    async with await site.open(secure=secure) as peer:
        head = random.choice(HEADS)
        await peer.send(head[: random.choice((len(head), random.randrange(len(head) + 1)))])
        return await ended(peer)


async def chunks(site, secure):
    """A publication whose body is no good."""
    async with await site.open(secure=secure) as peer:
        head = f"POST /topics/open/x HTTP/1.1\r\nHost: localhost\r\n{site.bearer('malformed')}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await peer.send(head.encode() + random.choice(CHUNKS))
        return await ended(peer)


async def batches(site, secure):
    """A batch with lines that are none."""
    async with await site.open(secure=secure) as peer:
        body = b"\n".join(random.sample(BATCHES, 3))
        await peer.ask("POST", "/topics", [site.bearer("malformed", publish=("open/#",)), "Content-Type: application/x-ndjson"], body)
        return True


async def frames(site, secure):
    """Bytes that are no frames, behind an upgrade."""
    async with await site.open(WebSocket, secure) as ws:
        await ws.upgrade("/topics/open/frames", [site.bearer("malformed", publish=("open/#",))], deflate=True)
        await ws.send(
            random.choice(
                [
                    random.choice(FRAMES),
                    b"\x81\x05plain",  # not masked
                    b"\xf1\x80\x00\x00\x00\x00",  # reserved bits
                    b"\x81\xff" + struct.pack(">Q", 1 << 62) + b"\x00\x00\x00\x00",  # longer than anything
                    masked(0x81, b"\xff\xfe"),  # no UTF-8
                    masked(0xC1, os.urandom(40)),  # does not inflate
                    masked(0x01, b"begun") + masked(0x81, b"again"),  # a message within a message
                    masked(0x09, b"p" * 126),  # a ping that is too long
                    masked(0x01, b"begun and never ended"),
                    masked(0x88, b"\x03"),  # half a close code
                ]
            )
        )
        return await ended(ws)


async def commands(site, secure):
    """Commands of the line protocol that are none."""
    async with await site.open(WebSocket, secure) as ws:
        await ws.upgrade("/ws", [site.bearer("malformed", publish=("open/#",), subscribe=("open/#",))], ["corecast.v1"])
        for line in random.sample(LINES, 5):
            await ws.send(masked(random.choice((0x81, 0x82)), line))
        if random.random() < 0.5:
            await ws.close()
            return True
        ws.reset()
        return True


async def strangers(site, secure):
    """Shows no token, a forged one, or nonsense."""
    async with await site.open(secure=secure) as peer:
        token = site.token("stranger")
        shown = random.choice(("", token[:-4] + "AAAA", "e30.e30.e30", "x" * 9000, *CREDENTIALS))
        headers = [f"Authorization: Bearer {shown}"] if shown and shown.isprintable() else []
        status, _, _ = await peer.ask("POST", "/topics/steady/0", headers, b"1 forged")
        if status == 200:
            site.ledger.fault(f"a stranger published with {shown[:80]!r}")
        return True


async def records(site, _):
    """Garbage where a handshake is due, or one that is cut."""
    async with await Peer.open(site.engine.tls_port) as peer:
        site.counts["connections over TLS"] += 1
        out = ssl.MemoryBIO()
        hello = site.tls.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
        try:
            hello.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = out.read()
        await peer.send(
            random.choice((random.choice(RECORDS), os.urandom(200), hello[: random.randrange(len(hello))], b"GET / HTTP/1.1\r\n\r\n"))
        )
        return await ended(peer)


async def forged(site, _):
    """A record that nobody sealed, behind a handshake that was in order."""
    async with await Peer.open(site.engine.tls_port) as peer:
        site.counts["connections over TLS"] += 1
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = site.tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await peer.send(outgoing.read())
                data = await asyncio.wait_for(peer.reader.read(1 << 16), SECONDS)
                if not data:
                    raise EOFError from None
                incoming.write(data)
        await peer.send(outgoing.read())
        record = os.urandom(random.choice((17, 200, 16000)))
        await peer.send(b"\x17\x03\x03" + struct.pack(">H", len(record)) + record)
        return await ended(peer)


async def ended(peer):
    """Sees the engine end it; one that it may keep, as a request in order does, is ended after a while."""
    return await peer.until_closed(SECONDS)


HEADS = [head for head in corpus("head") + corpus("response") + corpus("proxy") if head]
CHUNKS = corpus("chunked")
BATCHES = [line for line in corpus("publish_line") if line]
FRAMES = corpus("decoder")
LINES = corpus("line")
RECORDS = corpus("records")
CREDENTIALS = [text.decode("latin-1").strip() for text in corpus("credential")]
KINDS = [heads, chunks, batches, frames, commands, strangers, records, forged]


async def malformed(site):
    """Breaks one rule after another. Nobody may be kept for long by that, the engine least of all."""
    while not site.stopping.is_set():
        kind = random.choice(KINDS)
        try:
            if not await kind(site, random.random() < 0.3):
                site.ledger.fault(f"malformed, {kind.__name__}: not ended within {SECONDS} s")
        except (Refused, Closed, *BROKEN):
            pass
        site.counts[f"malformed: {kind.__name__}"] += 1
        await asyncio.sleep(random.uniform(0, 0.2))
