"""Attacks that meet a limit: connections as fast as they come, of an address or of a key, publishers above their rate, and those who
come back all at once.

They come from another loopback address than the innocent, which is held to the limits (`limit-loopback`).
"""

import collections
import heapq
import re
import select
import socket
import tempfile
import time

from field import attack
from wire import Answers, Crowd, frame, get, post, upgrade_request

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


# A back end's key, for whoever needs a subject.
KEY = "a-key-of-the-attackers"
KEYS = tempfile.NamedTemporaryFile("w", prefix="corecast-attack-", suffix=".toml")
KEYS.write(f'[[key]]\nname = "attackers"\nkey = "{KEY}"\npublish = ["#"]\nsubscribe = ["#"]\n')
KEYS.flush()


def one_key_was_held(engine, said):
    """Names it as a fault if the key has other than what it may have."""
    faults = nobody_else_was_refused(engine, said)
    if said["kept"] != KEPT:
        faults.append(f"{said['kept']} connections of one key, {KEPT} being allowed")
    return faults


# WebSockets that one key may have.
KEPT = 1_000


@attack(
    "subject-full",
    f"one API key opens WebSockets from many addresses as fast as it can, {KEPT} being allowed, and shows itself again on those it has",
    ["--insecure", "--api-keys", KEYS.name, "--max-connections-per-subject", str(KEPT), "--max-connections-per-address", "off"],
    after=one_key_was_held,
)
def subject_full(field):
    kept, waiting, said = {}, {}, collections.Counter(opened=0, refused=0, renewed=0)
    head = upgrade_request("/ws", f"Corecast-Key: {KEY}\r\n")
    renew = frame(f"AUTH {KEY} key id=1")
    poll = select.epoll()
    field.ready()
    while field.goes_on():
        for number in range(64):
            try:
                conn = connect_from(field.port, ("127.0.0.%d" % (10 + number), 0))
                conn.sendall(head)
            except OSError:
                said["refused"] += 1
                continue
            said["opened"] += 1
            conn.setblocking(False)
            waiting[conn.fileno()] = conn
            poll.register(conn, select.EPOLLIN)
        for fd, _ in poll.poll(0):
            try:
                part = (waiting.get(fd) or kept[fd]).recv(4096)
            except OSError:
                part = b""
            if fd in kept and part:
                said["renewed"] += part.count(b"OK 1")
            elif b" 101 " in part:
                kept[fd] = waiting.pop(fd)
                kept[fd].send(renew)
            else:
                said["refused"] += 1
                conn = waiting.pop(fd, None) or kept.pop(fd)
                poll.unregister(conn)
                conn.close()
        for conn in list(kept.values())[:: max(1, len(kept) // 32)]:
            conn.send(renew)
    return {"kept": len(kept), **said}


def the_governor_noticed(engine, said):
    """Names it as a fault if nobody had to wait."""
    said["overloads"] = engine.total()["overloads"]
    return [] if said["overloads"] else ["the governor did not notice"]


# Readers of the storm, and topics that each reads from the beginning: 64 messages of each, so small that to find them is most of the work.
STORM_READERS = 5_000
STORM_TOPICS = 64
# About what each is sent: a message is a line of 40 bytes or more.
STORM_BYTES = STORM_TOPICS * 64 * 40


@attack(
    "storm",
    "5,000 readers come at once for 4,096 small messages of history each, are cut off when they have it, and come back: at once, or when they are told to",
    ["--overload-after", "1ms"],
    after=the_governor_noticed,
    patience=90,
)
def storm(field):
    """How many had all of it, how many were told to come back later, and how many did not hear a word."""
    for topic in range(STORM_TOPICS):
        with connect_from(field.port) as conn:
            conn.sendall(b"".join(post(f"/topics/storm/{topic}", b"p") for _ in range(64)))
            answers, whole = Answers(), 0
            while whole < 64:
                whole += answers.take(conn.recv(1 << 16))
    names = "&".join(f"topic=storm/{topic}" for topic in range(STORM_TOPICS))
    request = get(f"/topics?{names}&transport=stream&since=earliest")
    due = [(0.0, number) for number in range(STORM_READERS)]
    poll = select.epoll()
    # Their connections, which of them they are, and what is still to come.
    reading = {}
    said = collections.Counter({"read all": 0, "told when to come back": 0, "without a word": 0})
    field.ready()
    began = time.monotonic()
    while field.goes_on():
        now = time.monotonic() - began
        while due and due[0][0] <= now:
            _, number = heapq.heappop(due)
            try:
                conn = connect_from(field.port, ("127.0.0.%d" % (10 + number % 200), 0))
                conn.sendall(request)
            except OSError:
                said["without a word"] += 1
                heapq.heappush(due, (now + 1.0, number))
                continue
            conn.setblocking(False)
            reading[conn.fileno()] = [conn, number, STORM_BYTES]
            poll.register(conn, select.EPOLLIN)
        for fd, _ in poll.poll(0.005):
            conn, number, left = reading[fd]
            try:
                part = conn.recv(1 << 18)
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            reading[fd][2] -= len(part)
            after = left == STORM_BYTES and re.search(rb"Retry-After: (\d+)", part)
            if part and not after and left > len(part):
                continue
            said["told when to come back" if after else "read all" if part else "without a word"] += 1
            heapq.heappush(due, (time.monotonic() - began + (float(after[1]) if after else 0.0 if part else 1.0), number))
            del reading[fd]
            poll.unregister(fd)
            conn.close()
    return dict(said)
