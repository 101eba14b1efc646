"""Attacks by readers: polls, replays, parked publishers, and those who come back all at once."""

import itertools
import select
import socket
import time

from field import attack
from wire import Answers, Crowd, connect, frame, get, post, upgrade_request, wait_for, websocket

# The default history of a topic: 64 messages, 64 KiB.
HISTORY_MESSAGES = 63


def fill_history(port, topic="big"):
    """Fills the history of a topic."""
    conn = websocket(port, "/ws")
    conn.sendall(frame(b"PUB %s\n" % topic.encode() + b"h" * 1000) * HISTORY_MESSAGES + frame("PING full"))
    wait_for(conn, b"PONG full")
    conn.close()


ASK = get("/topics/big?since=earliest")


@attack("polls", "200 connections poll one full history, each as soon as it has its answer")
def polls(field):
    fill_history(field.port)
    return {"answers": poll_in_turn(field, 200, 0.0)}


@attack("pollers-1000", "1,000 well-behaved pollers: each rests 50 ms before it asks for a full history again", patience=90)
def pollers_1000(field):
    fill_history(field.port)
    return {"answers": poll_in_turn(field, 1000, 0.05)}


def poll_in_turn(field, count, pause):
    """Lets so many poll until the end; returns how many answers they got."""
    answers = {}
    counted = 0
    waiting = []

    def hear(conn, part):
        nonlocal counted
        if whole := answers[conn].take(part):
            counted += whole
            if pause:
                waiting.append((time.monotonic() + pause, conn))
            else:
                crowd.say(conn, ASK)

    crowd = Crowd(hear)
    for _ in range(count):
        conn = connect(field.port)
        answers[conn] = Answers()
        crowd.add(conn)
    field.ready()
    for number, conn in enumerate(answers):
        waiting.append((time.monotonic() + pause * number / count, conn))
    waiting.sort(key=lambda each: each[0])
    while field.goes_on():
        now = time.monotonic()
        # They wait equally long, so who waits first asks first.
        while waiting and waiting[0][0] <= now:
            crowd.say(waiting.pop(0)[1], ASK)
        crowd.turn(0.01)
    return counted


@attack("polls-pipelined", "20 connections poll one full history, eight requests ahead of the answers")
def polls_pipelined(field):
    fill_history(field.port)
    return {"MB read": pipeline(field, 20)}


def pipeline(field, count, beside=None):
    """Lets so many pipeline polls until the end; returns how much they read."""
    read = 0

    def hear(conn, part):
        nonlocal read
        read += len(part)

    crowd = Crowd(hear, lambda conn: ASK * 8)
    conns = [connect(field.port) for _ in range(count)]
    field.ready()
    for conn in conns:
        crowd.add(conn)
    while field.goes_on():
        crowd.turn(0.01)
        if beside:
            beside.turn(0)
    return read >> 20


@attack("parked-publishers", "the same 20, beside 20 publishers of 1,000 bytes each who write as fast as they may")
def parked_publishers(field):
    fill_history(field.port)
    publishers = Crowd(more=lambda conn: block)
    block = frame(b"PUB load\n" + b"p" * 1000) * 64
    for _ in range(20):
        publishers.add(websocket(field.port, "/ws"))
    return {"MB read": pipeline(field, 20, publishers)}


@attack("publish-flood", "20 WebSockets publish 100 bytes each time, as fast as they may, to a topic with 50 readers")
def publish_flood(field):
    block = frame(b"PUB load\n" + b"p" * 100) * 256
    crowd = Crowd(more=lambda conn: block if conn in publishers else None)
    publishers = {websocket(field.port, "/ws") for _ in range(20)}
    readers = [websocket(field.port, "/topics/load?since=live") for _ in range(50)]
    field.ready()
    for conn in [*publishers, *readers]:
        crowd.add(conn)
    crowd.run(field.until)
    return {"ended": crowd.ended}


@attack("large-messages", "10 WebSockets publish 60 KB each time, as fast as they may, to a topic with 10 readers")
def large_messages(field):
    block = frame(b"PUB load\n" + b"p" * 60_000) * 4
    publishers = {websocket(field.port, "/ws") for _ in range(10)}
    readers = [websocket(field.port, "/topics/load?since=live") for _ in range(10)]
    crowd = Crowd(more=lambda conn: block if conn in publishers else None)
    field.ready()
    for conn in [*publishers, *readers]:
        crowd.add(conn)
    crowd.run(field.until)
    return {"ended": crowd.ended}


@attack("new-topics", "10 WebSockets publish 100 bytes to a new topic each time, as fast as they may, until memory is full", ["--memory", "32M"])
def new_topics(field):
    crowd = Crowd(more=lambda conn: b"".join(frame(b"PUB new/%d\n" % next(numbers) + b"p" * 100) for _ in range(512)))
    numbers = itertools.count()
    conns = [websocket(field.port, "/ws") for _ in range(10)]
    field.ready()
    for conn in conns:
        crowd.add(conn)
    crowd.run(field.until)
    return {"topics": next(numbers), "ended": crowd.ended}


@attack("pipelined-posts", "20 connections pipeline POSTs of one byte, 64 KB of them at a time: what is carried over is large")
def pipelined_posts(field):
    request = post("/topics/load", b"x")
    block = request * (65536 // len(request))
    answers = 0

    def hear(conn, part):
        nonlocal answers
        answers += part.count(b"HTTP/1.1 200")

    crowd = Crowd(hear, lambda conn: block)
    conns = [connect(field.port) for _ in range(20)]
    field.ready()
    for conn in conns:
        crowd.add(conn)
    crowd.run(field.until)
    return {"answers": answers}


@attack("resubscribe", "20 WebSockets subscribe to a full history from its beginning, and leave it, as fast as they may")
def resubscribe(field):
    fill_history(field.port)
    block = (frame("SUB big since=earliest") + frame("UNSUB big")) * 64
    crowd = Crowd(more=lambda conn: block)
    conns = [websocket(field.port, "/ws") for _ in range(20)]
    field.ready()
    for conn in conns:
        crowd.add(conn)
    crowd.run(field.until)
    return {"ended": crowd.ended}


@attack("long-polls", "500 long polls of a topic that is published to 20 times a second, each renewed as soon as it is answered")
def long_polls(field):
    request = get("/topics/load?transport=long-poll&since=live&wait=30")
    answers = {}
    counted = 0

    def hear(conn, part):
        nonlocal counted
        if conn in answers and (whole := answers[conn].take(part)):
            counted += whole
            crowd.say(conn, request)

    crowd = Crowd(hear)
    for _ in range(500):
        conn = connect(field.port)
        answers[conn] = Answers()
        crowd.add(conn)
    publisher = websocket(field.port, "/ws")
    field.ready()
    crowd.add(publisher)
    for conn in answers:
        crowd.say(conn, request)
    due = time.monotonic()
    while field.goes_on():
        crowd.turn(min(max(due - time.monotonic(), 0), 0.05))
        if time.monotonic() >= due:
            crowd.say(publisher, frame(b"PUB load\n" + b"p" * 200))
            due += 0.05
    return {"answers": counted, "ended": crowd.ended}


@attack("reconnect-storm", "3,000 subscribers come back at once with cursors and get a full history each, again and again", patience=90)
def reconnect_storm(field):
    return storm(field, 3000, upgrade_request("/ws") + frame("SUB big since=00000001-1"))


@attack("reconnect-sse", "the same over Server-Sent Events")
def reconnect_sse(field):
    return storm(field, 3000, get("/topics/big?transport=sse", "Last-Event-ID: 00000001-1\r\n"))


def storm(field, count, request):
    """Drops everybody and lets them come back, each time that all have their histories."""
    fill_history(field.port)
    field.ready()
    storms = back = 0
    while field.goes_on():
        epoll, left = select.epoll(), {}
        # Not more under way than the accept queue holds: a storm of people is as steep as their connections.
        dialed, got = 0, 0
        gone = min(field.until, time.monotonic() + 8)
        while got < count and time.monotonic() < gone:
            while dialed < count and dialed - got < 1000:
                conn = socket.socket()
                conn.setblocking(False)
                conn.connect_ex(("127.0.0.1", field.port))
                left[conn.fileno()] = [conn, HISTORY_MESSAGES * 1000]
                epoll.register(conn.fileno(), select.EPOLLOUT)
                dialed += 1
            for fd, events in epoll.poll(0.05):
                each = left[fd]
                try:
                    if events & select.EPOLLOUT:
                        each[0].send(request)
                        epoll.modify(fd, select.EPOLLIN)
                    if events & select.EPOLLIN:
                        part = each[0].recv(1 << 18)
                        had = each[1]
                        each[1] -= len(part)
                        got += had > 0 >= each[1]
                        if not part:
                            epoll.unregister(fd)
                except OSError:
                    epoll.unregister(fd)
        storms += 1
        back += got
        for conn, _ in left.values():
            conn.close()
        epoll.close()
    return {"storms": storms, "back": back}
