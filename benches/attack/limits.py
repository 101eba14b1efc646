"""Attacks that meet a limit: connections as fast as they come, publishers above their rate, and those who come back all at once.

They come from another loopback address than the innocent, which is held to the limits (`limit-loopback`).
"""

import collections
import re
import select
import socket
import time

from field import attack
from wire import Crowd, frame, upgrade_request

# Where attackers come from.
ATTACKER = ("127.0.0.9", 0)


def connect_from(port, source=ATTACKER):
    """Opens a connection from an address."""
    return socket.create_connection(("127.0.0.1", port), 30.0, source)


def nobody_else_was_refused(engine, said):
    """Names it as a fault if nobody met the limit."""
    total = engine.total()
    said["limited"] = total["limited_connects"] + total["limited_connections"] + total["limited_publishes"]
    said["long turns %"] = total["long_turns_percent"]
    return [] if said["limited"] else ["nobody met a limit"]


@attack(
    "connect-flood",
    "one address opens connections as fast as it can, 100 a second being allowed, and keeps those that it gets",
    ["--limit-loopback", "--connect-rate-per-address", "100"],
    after=nobody_else_was_refused,
)
def connect_flood(field):
    kept, refused, told, cut_off = [], 0, 0, 0
    poll = select.epoll()
    open_conns = {}
    field.ready()
    while field.goes_on():
        for _ in range(64):
            try:
                conn = connect_from(field.port)
            except OSError:
                cut_off += 1
                continue
            conn.setblocking(False)
            open_conns[conn.fileno()] = conn
            poll.register(conn, select.EPOLLIN)
        for fd, _ in poll.poll(0):
            conn = open_conns.pop(fd)
            try:
                answer = conn.recv(4096)
            except OSError:
                answer = b""
            told += b"Retry-After: " in answer
            cut_off += not answer
            refused += 1
            conn.close()
    kept = len(open_conns)
    return {"kept": kept, "refused": refused, "told when to come back": told, "without a word": cut_off}


@attack(
    "address-full",
    "one address opens 5,000 connections, 1,000 being allowed",
    ["--limit-loopback", "--connect-rate-per-address", "off", "--max-connections-per-address", "1000"],
    after=nobody_else_was_refused,
)
def address_full(field):
    conns, refused = [], 0
    field.ready()
    for _ in range(5_000):
        if not field.goes_on():
            break
        try:
            conns.append(connect_from(field.port))
        except OSError:
            refused += 1
    time.sleep(0.5)
    for conn in conns:
        conn.setblocking(False)
        try:
            refused += bool(conn.recv(4096)) or 1
        except BlockingIOError:
            pass
        except OSError:
            refused += 1
    return {"opened": len(conns), "refused": refused}


@attack(
    "publish-above-rate",
    "20 WebSockets publish as fast as they may, 100 a second of the address being allowed, beside one that publishes ten",
    ["--limit-loopback", "--publish-rate-per-address", "100"],
    after=nobody_else_was_refused,
)
def publish_above_rate(field):
    block = frame(b"PUB load id=1\n" + b"p" * 100) * 256
    said = collections.Counter()

    def hear(conn, part):
        said["taken"] += part.count(b"OK 1 ")
        said["refused"] += part.count(b"ERR 1 rate ")

    crowd = Crowd(hear, lambda conn: block)
    conns = []
    for _ in range(20):
        conn = connect_from(field.port)
        conn.sendall(upgrade_request("/ws"))
        conns.append(conn)
    time.sleep(0.5)
    field.ready()
    for conn in conns:
        crowd.add(conn)
    crowd.run(field.until)
    return {**said, "ended": crowd.ended}


@attack(
    "storm",
    "3,000 WebSockets are cut off and come back at once, each again when it is told to, until the end",
    ["--overload-after", "5ms"],
    patience=90,
)
def storm(field):
    """Those who are refused come back when they are told to: how many are in at the end, and how late was the last."""
    conns = 3_000
    due = [(0.0, number) for number in range(conns)]
    poll = select.epoll()
    waiting = {}
    inside = told = lost = 0
    last_in = 0.0
    field.ready()
    began = time.monotonic()
    while field.goes_on() and inside < conns:
        now = time.monotonic() - began
        ready = [each for each in due[:256] if each[0] <= now]
        due = due[len(ready) :]
        for _, number in ready:
            try:
                conn = connect_from(field.port, ("127.0.0.%d" % (10 + number % 200), 0))
                conn.sendall(upgrade_request("/topics/storm?since=live"))
            except OSError:
                lost += 1
                due.append((now + 1.0, number))
                continue
            conn.setblocking(False)
            waiting[conn.fileno()] = (conn, number)
            poll.register(conn, select.EPOLLIN)
        for fd, _ in poll.poll(0.005):
            conn, number = waiting.pop(fd)
            poll.unregister(fd)
            try:
                answer = conn.recv(4096)
            except OSError:
                answer = b""
            if b" 101 " in answer:
                inside += 1
                last_in = time.monotonic() - began
                waiting[-inside] = (conn, number)  # It stays open.
                continue
            after = re.search(rb"Retry-After: (\d+)", answer)
            told += bool(after)
            lost += not after
            due.append((time.monotonic() - began + (float(after[1]) if after else 1.0), number))
            due.sort()
            conn.close()
    return {"in": f"{inside} of {conns}", "last after": f"{last_in:.1f} s", "told when to come back": told, "without a word": lost}
