"""Producers: who numbers its messages has each of them published once, in order, whatever becomes of its connections, over a real kernel."""

import json
import random
import tempfile
import threading

import websockets.sync.client

from engine import Engine, curl, topic
from relay import Relay


def history(engine, name):
    return [message["data"] for message in json.loads(curl(f"{engine.url}/topics/{name}?since=earliest").body)]


def post(url, name, producer, number, data):
    lines = ["-H", f"Corecast-Producer: {producer}", "-H", f"Corecast-Number: {number}", "--data-binary", data]
    return curl(f"{url}/topics/{name}", *lines)


def test_each_number_once_over_every_way(engine):
    """A command, a request and a line of a batch with the same number are one message; what is missing is told."""
    name = topic("once")
    with engine.line() as line:
        line.send(f"PUB {name} producer=p n=1 id=a\none")
        cursor = line.recv().split(" ")[2]
        line.send(f"PUB {name} producer=p n=1 id=b\none")
        assert line.recv() == f"OK b {cursor} repeated"
        line.send(f"PUB {name} producer=p n=3 id=c\nthree")
        assert line.recv().startswith("ERR c out-of-order 2 is next")
    assert json.loads(post(engine.url, name, "p", 1, "one").body) == {"topic": name, "cursor": cursor, "repeated": True}
    refused = post(engine.url, name, "p", 7, "seven")
    assert (refused.status, json.loads(refused.body)["expected"]) == (409, 2)
    lines = "\n".join(json.dumps({"topic": name, "data": str(n), "producer": "p", "n": n}) for n in (1, 2, 3))
    batch = curl(f"{engine.url}/topics", "-H", "Content-Type: application/x-ndjson", "--data-binary", lines)
    assert json.loads(batch.body) == {"published": 3, "repeated": 1}, batch.body
    assert history(engine, name) == ["one", "2", "3"]


def test_connections_that_are_cut_all_the_time(_):
    """Four publishers over WebSockets whose machine is switched off now and then send again what was not answered: each message stands there once."""
    count = 300
    with Engine("--shards", "3", "--history-messages", "5000", "--history-bytes", "4M") as engine, Relay(engine.port) as relay:
        name = topic("cut")
        done = threading.Event()

        def publish(who):
            told = 0
            while told < count:
                try:
                    with websockets.sync.client.connect(
                        f"ws://127.0.0.1:{relay.port}/ws", proxy=None, compression=None, close_timeout=0.1
                    ) as line:
                        assert line.recv(timeout=10).startswith("HI ")
                        last = min(count, told + 40)
                        for number in range(told + 1, last + 1):
                            line.send(f"PUB {name} producer={who} n={number} id={number}\n{who} {number}")
                        while told < last:
                            words = line.recv(timeout=10).split(" ")
                            assert words[:2] == ["OK", str(told + 1)], words
                            told += 1
                except (OSError, EOFError, websockets.exceptions.WebSocketException):
                    continue  # It was cut.

        def cut():
            dice = random.Random(1)
            while not done.wait(dice.random() * 0.02):
                relay.cut()

        threads = [threading.Thread(target=publish, args=(f"p{who}",)) for who in range(4)]
        cutter = threading.Thread(target=cut)
        for thread in [*threads, cutter]:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        cutter.join()
        messages, since = [], "earliest"
        while True:
            answer = curl(f"{engine.url}/topics/{name}?since={since}")
            part = json.loads(answer.body)
            if not part:
                break
            messages += [message["data"] for message in part]
            since = part[-1]["cursor"]
        for who in range(4):
            numbers = [int(data.split(" ")[1]) for data in messages if data.startswith(f"p{who} ")]
            assert numbers == list(range(1, count + 1)), f"p{who}: {len(numbers)} messages"
        repeats = engine.total("repeats")
        assert repeats > 0, "no answer was lost: the test is too tame"


def test_names_without_end(_):
    """Somebody invents names without end: memory stays, and another producer of the topic is known as before; with the topic full, newcomers are told so."""
    with Engine("--shards", "1") as engine:
        name = topic("names")
        assert post(engine.url, name, "innocent", 1, "x").status == 200
        before = engine.total("table_bytes")
        with tempfile.NamedTemporaryFile("w") as file:
            for part in range(25):
                with open(file.name, "w") as lines:
                    for n in range(10_000):
                        lines.write(f'{{"topic":"{name}","data":0,"producer":"{part}-{n}","n":1}}\n')
                answer = curl(
                    f"{engine.url}/topics", "-H", "Content-Type: application/x-ndjson", "--data-binary", f"@{file.name}"
                )
                assert answer.status == 429, answer.body
        # Half of the topic's places; the one that was there before is one of them, as all who show nothing are one.
        assert engine.total("producers") == 512
        assert engine.total("table_bytes") - before < 1 << 20
        assert json.loads(post(engine.url, name, "innocent", 1, "x").body)["repeated"]
        assert post(engine.url, name, "innocent", 2, "x").status == 200
        assert post(engine.url, name, "new", 1, "x").status == 429
        assert post(engine.url, name + "/other", "new", 1, "x").status == 200


def test_the_command_line(engine):
    """`corecast pub --producer` publishes once, and counts its lines on."""
    name = topic("pub")
    run = lambda *words, **given: engine.run("pub", "--producer", "job", *words, **given)
    first = run(name, "one")
    assert run(name, "one").stdout == first.stdout != ""
    lines = run(name, "--lines", "--number", "2", input="two\nthree\n")
    assert len(lines.stdout.split()) == 2, lines
    late = run(name, "--number", "9", "nine")
    assert late.returncode == 1 and "4 is next" in late.stderr, late
    assert engine.run("pub", "--producer", "a b", name, "x").returncode == 2
    assert history(engine, name) == ["one", "two", "three"]
