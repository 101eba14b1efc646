"""Bytes as an attacker needs them: connections, WebSocket frames, requests, and sockets that are written to as fast as they take it.

Owns no schedule and no verdict. Everything is made before the attack begins, so that Python only hands finished blocks to the kernel.
"""

import os
import select
import socket
import struct
import time

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

# Most bytes taken from a socket at once.
READ_BYTES = 1 << 18


def connect(port, timeout=30.0):
    """Opens a connection to the engine."""
    return socket.create_connection(("127.0.0.1", port), timeout)


def upgrade_request(path, headers=""):
    """The head that asks for a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    ).encode()


def websocket(port, path, headers=""):
    """Opens a WebSocket; what came behind the answer's head is dropped."""
    conn = connect(port)
    conn.sendall(upgrade_request(path, headers))
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = conn.recv(4096)
        if not part:
            raise ConnectionError("no answer to the upgrade")
        answer += part
    if b" 101 " not in answer:
        raise ConnectionError(answer.split(b"\r\n", 1)[0].decode("latin-1"))
    return conn


def frame(payload, opcode=1, fin=True, compressed=False):
    """A masked frame; the mask is zero, which servers cannot tell."""
    payload = payload.encode() if isinstance(payload, str) else payload
    first = bytes([(0x80 if fin else 0) | (0x40 if compressed else 0) | opcode])
    if len(payload) < 126:
        return first + bytes([0x80 | len(payload)]) + bytes(4) + payload
    if len(payload) < 1 << 16:
        return first + b"\xfe" + struct.pack(">H", len(payload)) + bytes(4) + payload
    return first + b"\xff" + struct.pack(">Q", len(payload)) + bytes(4) + payload


def get(target, headers=""):
    """A request without a body."""
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode()


def post(target, body, headers=""):
    """A request with a body."""
    return f"POST {target} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def ask(port, request, timeout=10.0):
    """Sends a request on a connection of its own and returns the status; 0 if there is none."""
    with connect(port, timeout) as conn:
        conn.sendall(request.replace(b"\r\nHost: a\r\n", b"\r\nHost: a\r\nConnection: close\r\n", 1))
        answer = b""
        while part := conn.recv(READ_BYTES):
            answer += part
        return int(answer.split()[1]) if answer else 0


def wait_for(conn, mark, timeout=60.0):
    """Reads until a mark has come."""
    conn.settimeout(timeout)
    seen = b""
    while mark not in seen:
        part = conn.recv(1 << 20)
        if not part:
            raise ConnectionError(f"{mark!r} did not come")
        seen = seen[-len(mark) :] + part


def reset(conn):
    """Ends a connection at once, with RST."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


class Crowd:
    """Sockets that are served as they are ready. `hear(conn, bytes)` is called with what came, `more(conn)` for the next bytes to
    send when all earlier ones are gone; `None` sends nothing until `say`."""

    def __init__(self, hear=None, more=None):
        self.epoll = select.epoll()
        self.hear = hear or (lambda conn, part: None)
        self.more = more or (lambda conn: None)
        self.conns = {}
        self.rest = {}
        self.ended = 0

    def add(self, conn, first=b""):
        """Takes a socket in."""
        conn.setblocking(False)
        fd = conn.fileno()
        self.conns[fd] = conn
        self.rest[fd] = memoryview(first)
        self.epoll.register(fd, select.EPOLLIN | select.EPOLLOUT)

    def say(self, conn, part):
        """Sends bytes behind those that wait."""
        fd = conn.fileno()
        if fd in self.conns:
            self.rest[fd] = memoryview(bytes(self.rest[fd]) + part)
            self.epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def drop(self, conn, hard=False):
        """Lets a socket go."""
        fd = conn.fileno()
        if self.conns.pop(fd, None):
            self.rest.pop(fd)
            self.epoll.unregister(fd)
            reset(conn) if hard else conn.close()

    def turn(self, seconds):
        """Serves what is ready, waiting at most so long for something to be."""
        for fd, events in self.epoll.poll(max(seconds, 0)):
            conn = self.conns.get(fd)
            if conn is None:
                continue
            try:
                if events & select.EPOLLOUT:
                    self.write(fd, conn)
                if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    part = conn.recv(READ_BYTES)
                    if not part:
                        raise ConnectionError
                    self.hear(conn, part)
            except BlockingIOError:
                pass
            except OSError:
                self.ended += 1
                self.drop(conn)

    def run(self, until):
        """Serves until a moment of time.monotonic()."""
        while (left := until - time.monotonic()) > 0:
            self.turn(min(left, 0.1))

    def write(self, fd, conn):
        rest = self.rest[fd]
        if not rest:
            block = self.more(conn)
            if block is None:
                self.epoll.modify(fd, select.EPOLLIN)
                return
            rest = memoryview(block)
        self.rest[fd] = rest[conn.send(rest) :]


class Answers:
    """Counts whole answers in what comes over a connection; each has Content-Length, or no body."""

    def __init__(self):
        self.head = b""
        self.body_left = 0

    def take(self, part):
        """Takes bytes and returns how many answers are whole by now."""
        whole = 0
        while part:
            if self.body_left:
                used = min(self.body_left, len(part))
                self.body_left -= used
                part = part[used:]
                whole += self.body_left == 0
                continue
            head, mark, rest = (self.head + part).partition(b"\r\n\r\n")
            if not mark:
                self.head = head
                break
            self.head = b""
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            self.body_left = int(length or 0)
            whole += self.body_left == 0
            part = rest
        return whole


def cpu_seconds(pid):
    """CPU time of a process."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
