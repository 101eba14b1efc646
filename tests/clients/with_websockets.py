"""WebSocket, raw and line protocol, with the Python library `websockets`."""

import threading

import websockets.exceptions
from engine import DEADLINE, Engine, curl, message, sequence, topic
from websockets.frames import CloseCode
from with_raw_sockets import WebSocket


def recv(ws):
    return ws.recv(timeout=DEADLINE)


def silent(ws):
    """Shows that nothing is on its way: a PING is answered before anything else."""
    ws.send("PING quiet")
    return recv(ws) == "PONG quiet"


def closed_with(ws):
    """Waits for the close and returns its code."""
    try:
        while True:
            recv(ws)
    except websockets.exceptions.ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def subscribe(ws, name, options="since=live"):
    """Subscribes and returns the head at that moment; with `live` nothing comes before the answer."""
    ws.send(f"SUB {name} {options} id=sub")
    word, token, *cursor = recv(ws).split(" ")
    assert (word, token) == ("OK", "sub"), (word, token, cursor)
    return cursor[0] if cursor else None


def test_raw_topic(engine):
    """On a raw topic every message of the server is one payload, and every message of a client is published."""
    name = topic("raw")
    with engine.ws(f"/topics/{name}?since=live") as one, engine.ws(f"/topics/{name}?since=live") as two:
        # The handshake is answered before the subscription stands on the home: publish until it does.
        one.send("hello")
        assert recv(one) == "hello"
        two.send("from two")
        assert recv(one) == "from two"
        while recv(two) != "from two":
            pass
        engine.publish(name, "from curl")
        assert recv(one) == recv(two) == "from curl"


def test_raw_kinds_of_payload(engine):
    """UTF-8 arrives as text, anything else as binary, and an empty payload as an empty message."""
    name = topic("kinds")
    with engine.ws(f"/topics/{name}") as ws:
        for sent, expected in [
            ("grün\n\x00", "grün\n\x00"),
            (b"plain", "plain"),
            (b"\xff\x00\xfe", b"\xff\x00\xfe"),
            ("", ""),
            ("x" * 65536, "x" * 65536),
        ]:
            ws.send(sent)
            assert recv(ws) == expected, expected[:20]


def test_raw_snapshot(engine):
    """A new subscriber of a raw topic gets the newest message first, and `since=-2` the newest two."""
    name = topic("snapshot")
    for data in ["a", "b", "c"]:
        engine.publish(name, data)
    with engine.ws(f"/topics/{name}") as ws:
        assert recv(ws) == "c"
    with engine.ws(f"/topics/{name}?since=-2") as ws:
        assert [recv(ws), recv(ws)] == ["b", "c"]
    with engine.ws(f"/topics/{name}?since=earliest") as ws:
        assert [recv(ws), recv(ws), recv(ws)] == ["a", "b", "c"]


def test_raw_too_large(engine):
    """A message above the limit closes the connection with 1009, and costs nobody else anything."""
    name = topic("large")
    with engine.ws(f"/topics/{name}") as other, engine.ws(f"/topics/{name}") as ws:
        ws.send("x" * (64 * 1024 + 2048))
        assert closed_with(ws) == CloseCode.MESSAGE_TOO_BIG
        other.send("fine")
        assert recv(other) == "fine"


def test_line_protocol(engine):
    """SUB, PUB, MSG, UNSUB, PING and ERR do what the contract says."""
    name = topic("line")
    with engine.line() as ws:
        assert ws.subprotocol == "corecast.v1"
        head = subscribe(ws, name)
        assert head is not None
        ws.send(f"PUB {name} event=tick id=p1\nhello\nworld")
        answers = sorted([recv(ws), recv(ws)])
        got_name, cursor, options, payload = message(answers[0])
        assert (got_name, options, payload) == (name, ["event=tick"], "hello\nworld")
        assert answers[1] == f"OK p1 {cursor}"
        assert sequence(cursor) == sequence(head) + 1
        ws.send(f"PUB {name}\n")
        assert message(recv(ws))[3] == ""
        ws.send("PING")
        assert recv(ws) == "PONG"
        ws.send("PING token")
        assert recv(ws) == "PONG token"
        ws.send(f"UNSUB {name} id=u")
        assert recv(ws).split(" ")[:2] == ["OK", "u"]
        engine.publish(name, "unheard")
        assert silent(ws)


def test_line_errors(engine):
    """Commands that are wrong get the code the contract names and the token of the command; the connection stays."""
    with engine.line() as ws:
        for command, token, code in [
            ("NONSENSE", "-", "bad-command"),
            ("", "-", "bad-command"),
            ("SUB", "-", "bad-command"),
            ("SUB a//b id=t1", "t1", "bad-topic"),
            ("SUB a+ id=t2", "t2", "bad-topic"),
            ("SUB a since=yesterday id=t3", "t3", "bad-command"),
            ("PUB $sys/x id=t4\nx", "t4", "bad-topic"),
            (f"PUB a id=t5\n{'x' * (64 * 1024 + 1)}", "t5", "too-large"),
        ]:
            ws.send(command)
            answer = recv(ws)
            assert answer.startswith(f"ERR {token} {code} "), (command[:40], answer)
        assert silent(ws)


def test_line_without_subprotocol(engine):
    """A client that offers no subprotocol gets the same protocol, and none is chosen for it."""
    with engine.ws("/ws") as ws:
        assert recv(ws).startswith("HI corecast.v1 ")
        assert ws.subprotocol is None
        assert silent(ws)


def test_line_topics_with_spaces(engine):
    """In the line protocol a topic is percent-encoded where it holds a space or a percent sign, both ways."""
    with engine.line() as ws:
        subscribe(ws, "test/with%20space/100%25")
        engine.publish("test/with%20space/100%25", "x")
        name, _, _, payload = message(recv(ws))
        assert (name, payload) == ("test/with%20space/100%25", "x")


def test_line_binary(engine):
    """A payload that is not UTF-8 arrives in a binary message with the same header line."""
    name = topic("binary")
    with engine.line() as ws:
        subscribe(ws, name)
        ws.send(f"PUB {name}\n".encode() + b"\x00\xff\n\xfe")
        got_name, _, _, payload = message(recv(ws))
        assert (got_name, payload) == (name, b"\x00\xff\n\xfe")


def test_fragments(engine):
    """A fragmented message is one message, and a ping between its fragments is answered."""
    name = topic("fragments")
    with engine.line() as ws:
        subscribe(ws, name)
        ws.send([f"PUB {name}", "\n", "one ", "", "two", " grün"])
        assert message(recv(ws))[3] == "one two grün"
        assert ws.ping().wait(DEADLINE)


def test_many_in_one_burst(engine):
    """A thousand messages in one burst arrive all, in order, as they were."""
    name = topic("burst")
    with engine.line() as ws:
        subscribe(ws, name)

        def publish():
            for n in range(1000):
                ws.send(f"PUB {name}\n{n}")

        publisher = threading.Thread(target=publish)
        publisher.start()
        cursors = []
        for n in range(1000):
            _, cursor, _, payload = message(recv(ws))
            assert payload == str(n)
            cursors.append(sequence(cursor))
        publisher.join()
        assert cursors == list(range(cursors[0], cursors[0] + 1000))


def test_since(engine):
    """Every form of `since=` delivers first what the contract says."""
    name = topic("since")
    cursors = [engine.publish(name, str(n)) for n in range(5)]
    # Every round publishes one more message.
    for since, first in [
        ("latest", -1),
        ("live", None),
        ("earliest", 0),
        ("-2", -2),
        ("-99", 0),
        (cursors[1], 2),
    ]:
        expected = [] if first is None else [str(n) for n in range(len(cursors))][first:]
        with engine.line() as ws:
            ws.send(f"SUB {name} since={since}")
            got = [message(recv(ws)) for _ in expected]
            assert [payload for *_, payload in got] == expected, since
            assert [cursor for _, cursor, *_ in got] == [cursors[int(payload)] for payload in expected], since
            assert silent(ws), since
            # Then live, without a hole: the first new message is the next one heard.
            cursors.append(engine.publish(name, str(len(cursors))))
            assert message(recv(ws))[1] == cursors[-1], since


def test_reconnect_with_cursor(engine):
    """A client that comes back with its cursor gets everything it missed, once, in order, and then what is new."""
    name = topic("reconnect")
    heard = []
    published = 0
    cursor = engine.publish(name, "start")
    for session in range(5):
        for _ in range(7):
            engine.publish(name, str(published))
            published += 1
        with engine.line() as ws:
            ws.send(f"SUB {name} since={cursor}")
            engine.publish(name, str(published))
            published += 1
            while len(heard) < published:
                _, cursor, _, payload = message(recv(ws))
                heard.append(int(payload))
    assert heard == list(range(published))


def test_gap_is_told(_):
    """A cursor older than the history is answered with a GAP that says how many are gone, and then the rest."""
    with Engine("--shards", "2", "--history-messages", "10") as engine:
        name = topic("gap")
        cursors = [engine.publish(name, str(n)) for n in range(30)]
        with engine.line() as ws:
            ws.send(f"SUB {name} since={cursors[4]}")
            word, got_name, _, _, count, reason = recv(ws).split(" ")
            assert (word, got_name, reason) == ("GAP", name, "expired")
            payloads = [message(recv(ws))[3] for _ in range(30 - 5 - int(count))]
            assert payloads == [str(n) for n in range(5 + int(count), 30)]
            assert int(count) == 15
            assert silent(ws)


def test_foreign_epoch_is_a_gap(engine):
    """A cursor of another life of the topic is answered with a GAP, and with what there is."""
    name = topic("epoch")
    cursor = engine.publish(name, "now")
    epoch = int(cursor.split("-")[0], 16)
    with engine.line() as ws:
        ws.send(f"SUB {name} since={(epoch + 1) & 0xFFFFFFFF:08x}-5")
        word, got_name, *_, reason = recv(ws).split(" ")
        assert (word, got_name, reason) == ("GAP", name, "epoch")
        assert message(recv(ws))[3] == "now"


def test_subscription_limit(_):
    """One connection may hold so many subscriptions and not one more; the ones it has go on."""
    with Engine("--shards", "2", "--max-subscriptions", "8") as engine:
        names = [topic("limit") for _ in range(9)]
        with engine.line() as ws:
            for name in names[:8]:
                subscribe(ws, name)
            ws.send(f"SUB {names[8]} since=live id=more")
            assert recv(ws).startswith("ERR more too-many ")
            engine.publish(names[0], "still here")
            assert message(recv(ws))[3] == "still here"
            ws.send(f"UNSUB {names[1]} id=less")
            assert recv(ws).startswith("OK less")
            subscribe(ws, names[8])


def test_fan_out_over_all_shards(engine):
    """Messages of several publishers reach every subscriber on every shard once, complete, and in the same order."""
    name = topic("fan-out")
    subscribers = [engine.line() for _ in range(60)]
    for ws in subscribers:
        subscribe(ws, name)
    per_shard = [shard["connections"] for shard in engine.stats()["shards"]]
    assert len(per_shard) == 2 and all(per_shard), f"connections on both shards: {per_shard}"

    def publish(publisher):
        with engine.line() as ws:
            for n in range(50):
                ws.send(f"PUB {name}\n{publisher} {n}")
            assert silent(ws)

    publishers = [threading.Thread(target=publish, args=(n,)) for n in range(3)]
    for publisher in publishers:
        publisher.start()
    heard = []
    for ws in subscribers:
        heard.append([message(recv(ws)) for _ in range(150)])
    for publisher in publishers:
        publisher.join()
    assert all(other == heard[0] for other in heard), "every subscriber heard the same"
    numbers = [sequence(cursor) for _, cursor, *_ in heard[0]]
    assert numbers == list(range(numbers[0], numbers[0] + 150))
    for publisher in range(3):
        own = [payload for *_, payload in heard[0] if payload.startswith(f"{publisher} ")]
        assert own == [f"{publisher} {n}" for n in range(50)], "a publisher's order is kept"
    for ws in subscribers:
        assert silent(ws)
        ws.close()


def test_echo(engine):
    """`/echo` sends back what it gets: text, binary, fragments, empty, large."""
    with engine.ws("/echo") as ws:
        for sent in ["", "x", "grün", b"", b"\xff\x00", "y" * 126, b"z" * 65536]:
            ws.send(sent)
            assert recv(ws) == sent
        ws.send(["one", "two"])
        assert recv(ws) == "onetwo"


def test_echo_is_off_by_default(_):
    """Without `--echo` there is no `/echo`."""
    with Engine("--shards", "1") as engine:
        assert curl(f"{engine.url}/echo").status == 404


def test_close_is_answered(engine):
    """A close of the client is answered with its code."""
    with engine.line() as ws:
        ws.close(code=3999, reason="bye")
        assert (ws.close_code, closed_with(ws)) == (3999, 3999)


def test_origins(engine):
    """A browser's page of a foreign origin is refused with 403; one of the same host is let in."""
    for origin, allowed in [
        (f"http://127.0.0.1:{engine.port}", True),
        ("http://localhost:3000", True),
        ("https://evil.example", False),
        ("null", False),
    ]:
        try:
            with engine.ws("/ws", origin=origin) as ws:
                assert recv(ws).startswith("HI ")
                assert allowed, f"{origin} was let in"
        except websockets.exceptions.InvalidStatus as refused:
            assert not allowed and refused.response.status_code == 403, (origin, refused)


def test_allowed_origin(_):
    """`--origins` lets a foreign origin in, and only that."""
    with Engine("--shards", "1", "--origins", "https://good.example") as engine:
        with engine.ws("/ws", origin="https://good.example") as ws:
            assert recv(ws).startswith("HI ")
        try:
            engine.ws("/ws", origin="https://evil.example")
            raise AssertionError("a foreign origin was let in")
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code == 403


def test_pings_come_each_interval(_):
    """A peer that answers and is silent otherwise is pinged after each interval, however long it might be dead.

    It was pinged only when it would have been dead: proxies that were promised a byte in time cut the connection.
    """
    with Engine("--shards", "1", "--ping-interval", "1s", "--dead-after", "1h") as engine:
        ws = WebSocket(engine)
        assert ws.frame()[1].startswith(b"HI ")
        for _ in range(4):
            first, payload = ws.frame()
            assert first == 0x89, (first, payload)
            ws.send(0x8A, payload)
        ws.connection.close()


def test_idle_peers_are_pinged_and_dead_ones_closed(_):
    """A silent peer is pinged and lives while it answers; one that does not answer is closed."""
    with Engine("--shards", "1", "--ping-interval", "1s", "--dead-after", "2s") as engine:
        with engine.raw() as dead, engine.line(ping_interval=None) as alive:
            key = "dGhlIHNhbXBsZSBub25jZQ=="
            dead.sendall(
                f"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            received = b""
            while True:
                piece = dead.recv(4096)
                if not piece:
                    break
                received += piece
            assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in received, received
            assert b"\x89" in received, "a ping came before the end"
            assert silent(alive)
