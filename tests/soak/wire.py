"""What clients of the soak speak: HTTP, streams and WebSockets over TCP or TLS, on one loop, and with control of every byte.

Owns connections, and the forms in which messages come over them. Knows no topic, no token and no witness.
"""

import asyncio
import base64
import json
import os
import random
import re
import socket
import struct
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "clients"))

import transports  # noqa: E402

# How long an answer may take on a host where two debug programs share two cores, in seconds.
PATIENCE = 30.0

# What a connection may end with besides words: the peer is gone, cut it, or is silent for too long.
BROKEN = (OSError, EOFError, asyncio.TimeoutError)


class Refused(Exception):
    """The engine said no: a status, what it told, and when to come back."""

    def __init__(self, status, text, seconds=None):
        super().__init__(f"{status} {text}")
        self.status, self.text, self.seconds = status, text, seconds


class Closed(Exception):
    """A WebSocket was closed in order: code and reason."""

    def __init__(self, code, reason):
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


def again_in(text):
    """Returns the seconds that a text tells to wait, or none."""
    found = re.search(r"try again in (\d+)s", text)
    return float(found.group(1)) if found else None


class Peer:
    """One connection. `async with` makes sure that it ends."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port, tls=None, receive_bytes=None):
        """Connects to a port of loopback, over TLS if there is a context."""
        plain = socket.socket()
        plain.setblocking(False)
        if receive_bytes is not None:
            # Before the connection stands, or the window is already offered.
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(plain, ("127.0.0.1", port)), PATIENCE)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            name = {"server_hostname": "localhost"} if tls else {}
            reader, writer = await asyncio.wait_for(asyncio.open_connection(sock=plain, ssl=tls, **name), PATIENCE)
        except BaseException:
            plain.close()
            raise
        return cls(reader, writer)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    def reset(self):
        """Ends it without a word: the peer is told by a reset."""
        plain = self.writer.get_extra_info("socket")
        if plain is not None and plain.fileno() >= 0:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def send(self, data):
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), PATIENCE)

    async def exactly(self, count, seconds=PATIENCE):
        return await asyncio.wait_for(self.reader.readexactly(count), seconds)

    async def until(self, mark, seconds=PATIENCE):
        return await asyncio.wait_for(self.reader.readuntil(mark), seconds)

    async def until_closed(self, seconds):
        """Reads until the peer ends it, and returns whether it did so in time."""
        end = asyncio.get_running_loop().time() + seconds
        try:
            while await asyncio.wait_for(self.reader.read(1 << 16), max(0.01, end - asyncio.get_running_loop().time())):
                pass
        except asyncio.TimeoutError:
            return False
        except OSError:
            pass
        return True

    async def head(self):
        """Reads the head of an answer: its status and its headers by lower-case name."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(lines[0].split(" ")[1]), headers

    async def pieces(self, headers):
        """Gives what comes of a body, until it ends in order; one that is cut raises EOFError."""
        unzip = zlib.decompressobj(31).decompress if headers.get("content-encoding") == "gzip" else bytes
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size = int((await self.until(b"\r\n")).split(b";")[0], 16)
                piece = (await self.exactly(size + 2))[:-2]
                if size == 0:
                    return
                yield unzip(piece)
        yield unzip(await self.exactly(int(headers.get("content-length", 0))))

    async def ask(self, method, target, headers=(), body=None):
        """Sends a request and returns status, headers and body of its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        return await self.answer()

    async def answer(self):
        """Reads an answer to a request that was sent."""
        status, headers = await self.head()
        body = b""
        if status not in (101, 204, 304):
            async for piece in self.pieces(headers):
                body += piece
        return status, headers, body

    async def stream(self, transport, target, headers=(), opened=None):
        """Opens a stream and gives its messages, gaps and refusals; returns when it ends in order. `opened` is set when it has begun."""
        await self.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode())
        status, told = await self.head()
        if status != 200:
            body = b"".join([piece async for piece in self.pieces(told)]).decode()
            raise Refused(status, body, float(told.get("retry-after", 0)) or again_in(body))
        if opened is not None:
            opened.set()
        text = ""
        async for piece in self.pieces(told):
            text += piece.decode()
            whole, text = _whole(transport, text)
            for item in transports.items(transport, whole):
                yield item


# What stands behind each item of a stream.
_ENDS = {"sse": "\n\n", "stream": "\n", "multipart": f"--{transports.BOUNDARY}\r\n", "forever-frame": "</script>\n"}


def _whole(transport, text):
    """Divides what came into complete items and what has only begun."""
    end = _ENDS[transport]
    cut = text.rfind(end)
    if cut < 0:
        return "", text
    if transport == "multipart":
        # The boundary ends one part and begins the next.
        return text[: cut + len(end)], text[cut:]
    return text[: cut + len(end)], text[cut + len(end) :]


def masked(first, payload):
    """Returns a frame of a client."""
    count = len(payload)
    length = bytes([0x80 | count]) if count < 126 else b"\xfe" + struct.pack(">H", count)
    if count > 65535:
        length = b"\xff" + struct.pack(">Q", count)
    mask = os.urandom(4)
    stream = int.from_bytes((mask * (count // 4 + 1))[:count], "big")
    hidden = (int.from_bytes(payload, "big") ^ stream).to_bytes(count, "big")
    return bytes([first]) + length + mask + hidden


class WebSocket(Peer):
    """A WebSocket, with permessage-deflate if that was agreed on."""

    inflated = False

    async def upgrade(self, target, headers=(), protocols=(), deflate=False):
        """Asks for it and returns itself; raises Refused if the answer is not 101."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *headers]
        if protocols:
            lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
        if deflate:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        await self.send("\r\n".join([*lines, "", ""]).encode())
        status, told = await self.head()
        if status != 101:
            body = b"".join([piece async for piece in self.pieces(told)]).decode()
            raise Refused(status, body, float(told.get("retry-after", 0)) or again_in(body))
        self.inflated = "permessage-deflate" in told.get("sec-websocket-extensions", "")
        return self

    async def say(self, text, first=0x81):
        """Sends a message, now and then in two fragments."""
        payload = text.encode()
        if len(payload) > 1 and random.random() < 0.05:
            cut = random.randrange(1, len(payload))
            await self.send(masked(first & 0x7F, payload[:cut]) + masked(0x80, payload[cut:]))
        else:
            await self.send(masked(first, payload))

    async def hear(self, seconds=PATIENCE):
        """Waits for a message and returns its text; answers pings; raises Closed when it is closed."""
        end = asyncio.get_running_loop().time() + seconds
        message = b""
        while True:
            left = max(0.001, end - asyncio.get_running_loop().time())
            first, length = await self.exactly(2, left)
            if length == 126:
                (length,) = struct.unpack(">H", await self.exactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.exactly(8))
            payload = await self.exactly(length)
            kind = first & 0x0F
            if kind == 9:
                await self.send(masked(0x8A, payload))
            elif kind == 8:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                try:
                    await self.send(masked(0x88, payload[:2]))
                except BROKEN:
                    pass
                raise Closed(code, payload[2:].decode())
            elif kind != 10:
                if first & 0x40:
                    payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
                message += payload
                if first & 0x80:
                    return message.decode()

    async def close(self):
        """Closes it in order, and waits for the answer; what comes before that is left unread."""
        try:
            await self.send(masked(0x88, struct.pack(">H", 1000)))
            while True:
                await self.hear(5.0)
        except (Closed, *BROKEN):
            pass


def gap_of(line):
    """Reads the fields of a GAP of the line protocol as the object that the other transports have."""
    _, topic, start, to, count, reason = line.split(" ")[:6]
    return {"topic": topic, "from": start, "to": to, "count": int(count), "reason": reason}


def script(text):
    """Reads the array of a script that was asked for with `transport=jsonp`."""
    return json.loads(text[text.index("(") + 1 : text.rindex(")")])
