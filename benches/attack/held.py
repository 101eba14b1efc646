"""Attacks by what is held or left behind: memory, slots, topics, the log's reader, the admin listener."""

import socket
import struct
import time

from field import attack, settled
from wire import Crowd, ask, connect, frame, get, post, reset, wait_for, websocket

# The innocent's connections, and the admin listener's are not counted.
INNOCENT_CONNECTIONS = 11


def publishes(port, count=30):
    """Returns how many of so many publications by others are taken."""
    taken = 0
    for number in range(count):
        try:
            taken += ask(port, post(f"/topics/other{number}", b"x" * 300)) == 200
        except OSError:
            pass
    return taken


def others_may_publish(engine, said):
    """Names it as a fault if others are refused."""
    taken = said.pop("taken of 30 while it lasts", None)
    if taken is None:
        return []
    said["publications of others taken"] = f"{taken} of 30"
    return [] if taken == 30 else [f"others may not publish: {taken} of 30 taken"]


@attack(
    "unfinished",
    "WebSocket messages that fill all memory are begun and never finished; their peers answer pings",
    ["--memory", "16M", "--request-timeout", "3s"],
    after=others_may_publish,
)
def unfinished(field):
    conns, begun = [], 0
    field.ready()

    def hear(conn, part):
        if part[:1] == b"\x89":
            crowd.say(conn, frame(b"", 10))

    crowd = Crowd(hear)
    for size in (65_000, 32_000, 16_000, 8_000, 4_000, 2_000, 1_000, 500, 250):
        for _ in range(300):
            # As much as there is memory: what was begun first is let go while the rest is still being begun.
            if begun > 17 << 20:
                break
            try:
                conn = websocket(field.port, "/ws")
                conn.sendall(frame(b"P" * size, fin=False))
                conn.settimeout(0.03)
                # The greeting, and then nothing, or its end if there is no memory for so much.
                conn.recv(4096)
                conn.recv(4096)
                break
            except TimeoutError:
                conns.append(conn)
                begun += size
                crowd.add(conn)
            except OSError:
                break
    # Longer than request-timeout, so that what is held must have been let go.
    crowd.run(max(field.until - 1, time.monotonic() + 6))
    held = field.engine.total()
    return {
        "MB begun": round(begun / 1e6, 1),
        "MB held": round(held["pool_inbound_bytes"] / 1e6, 1),
        "taken of 30 while it lasts": publishes(field.port),
    }


def topics_go(engine, said):
    """Names it as a fault if topics that were left are still there, or took long to go."""
    began, cpu = time.monotonic(), engine.total()
    gone = settled(lambda: engine.total()["topics"] <= 2, 60)
    said["gone after"] = f"{time.monotonic() - began:.1f} s"
    return [] if gone and time.monotonic() - began < 5 else [f"{cpu['topics']} topics are not forgotten in 5 s"]


@attack("leave", "400,000 topics, 1,024 to a connection, are left at once", ["--memory", "256M"], after=topics_go, patience=180)
def leave(field):
    conns = []
    for number in range(391):
        conn = websocket(field.port, "/ws")
        conns.append(conn)
        conn.sendall(b"".join(frame(f"SUB l/{number}/{topic} since=live") for topic in range(1024)))
        if number % 8 == 7 or number == 390:
            for each in conns[-8:]:
                each.sendall(frame("PING q"))
                wait_for(each, b"PONG q")
    field.ready()
    for conn in conns:
        reset(conn)
    while field.goes_on():
        time.sleep(0.1)
    return {"topics": 391 * 1024}


def ghosts_go(engine, said):
    """Names it as a fault if connections are still there whose peers have gone."""
    settled(lambda: engine.total()["connections"] <= INNOCENT_CONNECTIONS, 3)
    left = engine.total()["connections"]
    said["left after 3 s"] = left
    return [] if left <= INNOCENT_CONNECTIONS else [f"{left} connections of peers that have gone"]


@attack("ghosts", "long polls with a byte behind them, whose peers go at once, 500 a second", after=ghosts_go)
def ghosts(field):
    requests = [get("/topics/load?transport=long-poll&wait=120") + tail for tail in (b"", b"G")]
    made = 0
    field.ready()
    while field.goes_on():
        conn = connect(field.port)
        conn.sendall(requests[made // 2 % 2])
        time.sleep(0.002)
        reset(conn) if made % 2 else conn.close()
        made += 1
    return {"made": made}


@attack("half-heads", "1,000 connections send the heads of requests a byte at a time, and never end them", ["--header-timeout", "5s"])
def half_heads(field):
    crowd = Crowd()
    conns = [connect(field.port) for _ in range(1000)]
    for conn in conns:
        crowd.add(conn, b"GET /topics/a HTTP/1.1\r\n")
    field.ready()
    while field.goes_on():
        for conn in list(crowd.conns.values()):
            crowd.say(conn, b"X")
        next_at = time.monotonic() + 0.5
        while field.goes_on() and time.monotonic() < next_at:
            crowd.turn(0.05)
    return {"ended": crowd.ended}


@attack("readers-stall", "200 subscribers of a busy topic never read", ["--memory", "64M"])
def readers_stall(field):
    readers = []
    for _ in range(200):
        conn = websocket(field.port, "/topics/load?since=live")
        readers.append(conn)
    publisher = websocket(field.port, "/ws")
    block = frame(b"PUB load\n" + b"p" * 4000) * 16
    crowd = Crowd()
    crowd.add(publisher)
    field.ready()
    while field.goes_on():
        crowd.say(publisher, block)
        next_at = time.monotonic() + 0.05
        while field.goes_on() and time.monotonic() < next_at:
            crowd.turn(0.05)
    return {"readers": len(readers)}


@attack(
    "stderr",
    "what reads the log has stopped; 400 connections at a time find the table full, so that there is much to log",
    ["--connections", "100"],
    stderr_full=True,
)
def stderr(field):
    field.ready()
    tried = 0
    while field.goes_on():
        conns = []
        for _ in range(400):
            conn = socket.socket()
            conn.setblocking(False)
            conn.connect_ex(("127.0.0.1", field.port))
            conns.append(conn)
        time.sleep(1)
        tried += len(conns)
        for conn in conns:
            conn.close()
        time.sleep(0.2)
    return {"connections tried": tried}


def health_answers(engine, said):
    """Names it as a fault if /healthz answered late."""
    worst = said.pop("worst")
    said["/healthz at worst"] = f"{worst:.2f} s"
    return [] if worst < 1 else [f"/healthz took {worst:.1f} s"]


@attack("admin", "peers of the admin listener connect and say nothing, or half a request, and read nothing", after=health_answers)
def admin(field):
    field.ready()
    worst = 0.0
    while field.goes_on():
        conns = [socket.create_connection(("127.0.0.1", field.engine.admin), 5) for _ in range(8)]
        for conn in conns[4:]:
            conn.sendall(b"GET /stats HT")
        try:
            worst = max(worst, field.engine.health_seconds(10))
        except OSError:
            worst = 10.0
        for conn in conns:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
    return {"worst": worst}
