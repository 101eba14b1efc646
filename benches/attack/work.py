"""Attacks by work: little on the wire, much to do for the engine before it can go on."""

import time
import zlib

from field import attack
from wire import Answers, Crowd, connect, frame, get, post, wait_for, websocket

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"


def deflated(payload):
    """A frame whose payload is compressed."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame((coder.compress(payload) + coder.flush(zlib.Z_SYNC_FLUSH))[:-4], compressed=True)


@attack("inflate", "8 connections send 3.8 MB of commands at once, 99 bytes each that inflate to 65 KB, again and again")
def inflate(field):
    return bursts(field, 8, deflated(b"PING " + b"a" * 65_000) * 4_800)


@attack("inflate-publish", "the same with publications, to a topic that nobody reads", ["--memory", "64M"])
def inflate_publish(field):
    return bursts(field, 8, deflated(b"PUB load\n" + b"a" * 65_000) * 2_000)


def bursts(field, count, block):
    """Lets so many send a block, wait until it was understood, and send it again."""
    conns = [websocket(field.port, "/ws", DEFLATE) for _ in range(count)]
    sent = done = 0

    def hear(conn, part):
        nonlocal done
        done += part.count(b"PONG done")
        if b"PONG done" in part:
            crowd.say(conn, block)

    # The last command is answered, whatever the others were.
    block += frame("PING done")
    crowd = Crowd(hear)
    field.ready()
    for conn in conns:
        crowd.add(conn, block)
        sent += 1
    crowd.run(field.until)
    return {"bursts": done, "MB each": round(len(block) / 1e6, 1), "ended": crowd.ended}


@attack("batches-100", "100 NDJSON batches of 64 KB that complete together, again and again", ["--memory", "256M"])
def batches_100(field):
    return batches(field, 100)


@attack("batches-400", "400 of them", ["--memory", "256M"])
def batches_400(field):
    return batches(field, 400)


def batches(field, count):
    """Lets so many batches lack only their last byte, and then get it at the same moment."""
    line = b'{"topic":"load","data":""}\n'
    request = post("/topics", line * (65536 // len(line)), "Content-Type: application/x-ndjson\r\n")
    answers = {}
    rounds = 0
    left = 0

    def hear(conn, part):
        nonlocal left
        left -= answers[conn].take(part)

    crowd = Crowd(hear)
    for _ in range(count):
        conn = connect(field.port)
        answers[conn] = Answers()
        crowd.add(conn)
    field.ready()
    while field.goes_on() and crowd.conns:
        left = count
        for conn in answers:
            crowd.say(conn, request[:-1])
        while field.goes_on() and any(crowd.rest.values()):
            crowd.turn(0.05)
        # All is there but the last bytes; they go out without waiting for anything.
        for conn in list(crowd.conns.values()):
            crowd.say(conn, request[-1:])
        while field.goes_on() and left > crowd.ended:
            crowd.turn(0.05)
        rounds += 1
    return {"rounds": rounds, "ended": crowd.ended}


def escaped(text):
    """Every byte as an escape: three bytes that are read as one."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


@attack("topics-64", "20 connections poll 64 topics each time, named in a query of 16 KB, as soon as they have their answer")
def topics_64(field):
    names = [escaped(f"{number:03}" + "n" * 75) for number in range(64)]
    request = get("/topics?" + "&".join(f"topic={name}" for name in names))
    assert 15_000 < len(request) < 16_384
    answers = {}
    counted = 0

    def hear(conn, part):
        nonlocal counted
        if whole := answers[conn].take(part):
            counted += whole
            crowd.say(conn, request * whole)

    crowd = Crowd(hear)
    for _ in range(20):
        conn = connect(field.port)
        answers[conn] = Answers()
        crowd.add(conn)
    field.ready()
    for conn in answers:
        crowd.say(conn, request * 2)
    crowd.run(field.until)
    return {"answers": counted, "ended": crowd.ended}


@attack("pings", "20 WebSockets send pings of 100 bytes as fast as they may, and read the pongs")
def pings(field):
    return flood(field, 20, "/ws", frame(b"p" * 100, 9) * 512)


@attack("commands", "20 WebSockets send PING commands as fast as they may, and read the answers")
def commands(field):
    return flood(field, 20, "/ws", frame("PING token") * 2048)


@attack("wrong-commands", "20 WebSockets send commands that nobody knows as fast as they may, and read the answers")
def wrong_commands(field):
    return flood(field, 20, "/ws", frame("DANCE now") * 2048)


@attack("not-found", "20 connections pipeline requests for what is not there as fast as they may, and read the answers")
def not_found(field):
    block = get("/nothing/here") * 512
    crowd = Crowd(more=lambda conn: block)
    conns = [connect(field.port) for _ in range(20)]
    field.ready()
    for conn in conns:
        crowd.add(conn)
    crowd.run(field.until)
    return {"ended": crowd.ended}


@attack("fragments", "20 WebSockets publish messages in fragments of one byte, as fast as they may")
def fragments(field):
    # A message of 20,000 fragments, the first of which says what it is.
    message = frame("PUB load\n", fin=False) + frame("x", 0, fin=False) * 20_000 + frame("x", 0)
    return flood(field, 20, "/ws", message)


@attack("empty-fragments", "the same with fragments of no bytes")
def empty_fragments(field):
    message = frame("PUB load\n", fin=False) + frame("", 0, fin=False) * 20_000 + frame("x", 0)
    return flood(field, 20, "/ws", message)


def flood(field, count, path, block):
    """Lets so many send a block over and over, and read what is said."""
    sent = 0

    def more(conn):
        nonlocal sent
        sent += len(block)
        return block

    crowd = Crowd(more=more)
    conns = [websocket(field.port, path) for _ in range(count)]
    field.ready()
    for conn in conns:
        crowd.add(conn)
    crowd.run(field.until)
    return {"MB sent": sent >> 20, "ended": crowd.ended}


@attack("dialects", "13 compressing dialects of one topic, 60 KB of text published to it 80 times a second, eight at a time")
def dialects(field):
    readers = []
    for bits in range(9, 16):
        offer = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n"
        readers.append(websocket(field.port, "/topics/load?since=live", offer))
    for bits in (9, 15):
        offer = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}\r\n"
        conn = websocket(field.port, "/ws", offer)
        conn.sendall(frame("SUB load since=live"))
        readers.append(conn)
    for transport in ("sse", "stream", "multipart", "forever-frame"):
        conn = connect(field.port)
        conn.sendall(get(f"/topics/load?since=live&transport={transport}", "Accept-Encoding: gzip\r\n"))
        readers.append(conn)
    # Text that compresses somewhat, as JSON does.
    text, seed = [], 7
    while sum(map(len, text)) < 60_000:
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        text.append(f'{{"row":{seed % 1000},"price":{seed % 99991},"state":"open"}},')
    block = frame("PUB load\n" + "".join(text)[:60_000]) * 8
    publisher = websocket(field.port, "/ws")
    read = 0

    def hear(conn, part):
        nonlocal read
        read += len(part)

    crowd = Crowd(hear)
    field.ready()
    for conn in [*readers, publisher]:
        crowd.add(conn)
    due, published = time.monotonic(), 0
    while field.goes_on():
        crowd.turn(min(max(due - time.monotonic(), 0), 0.05))
        if time.monotonic() >= due:
            crowd.say(publisher, block)
            published += 8
            due += 8 / 80
    return {"published": published, "MB read": read >> 20, "ended": crowd.ended}


@attack(
    "many-subscriptions",
    "a connection with 50,000 subscriptions sends 70 KB of commands, again and again",
    ["--max-subscriptions", "100000", "--memory", "256M"],
    patience=120,
)
def many_subscriptions(field):
    conn = websocket(field.port, "/ws")
    for start in range(0, 50_000, 1_000):
        conn.sendall(b"".join(frame(f"SUB t/{number} since=live") for number in range(start, start + 1_000)))
        conn.sendall(frame(f"PING {start}"))
        wait_for(conn, b"PONG %d" % start)
    # As many as there is room for, the half of them for topics that are not there, which are looked for longest.
    block = (frame("UNSUB n") + frame("UNSUB t/9") + frame("SUB t/9 since=live")) * 1_500
    done = 0

    def hear(conn, part):
        nonlocal done
        done += part.count(b"PONG done")
        if b"PONG done" in part:
            crowd.say(conn, block)

    block += frame("PING done")
    crowd = Crowd(hear)
    field.ready()
    crowd.add(conn, block)
    crowd.run(field.until)
    return {"blocks": done, "ended": crowd.ended}


@attack("subscribe-churn", "20 WebSockets subscribe to 500 topics each and leave them, as fast as they may")
def subscribe_churn(field):
    crowds = Crowd(more=lambda conn: blocks[conn])
    blocks = {}
    for number in range(20):
        conn = websocket(field.port, "/ws")
        names = [f"churn/{number}/{topic}" for topic in range(500)]
        blocks[conn] = b"".join(frame(f"SUB {name} since=live") for name in names) + b"".join(
            frame(f"UNSUB {name}") for name in names
        )
    field.ready()
    for conn in blocks:
        crowds.add(conn)
    crowds.run(field.until)
    return {"ended": crowds.ended}


@attack("connects", "connections are made, upgraded, subscribed and reset, one after another, as fast as they may")
def connects(field):
    field.ready()
    made = 0
    while field.goes_on():
        try:
            conn = websocket(field.port, "/topics/load?since=live")
            made += 1
            conn.close()
        except OSError:
            time.sleep(0.001)
    return {"connections": made}
