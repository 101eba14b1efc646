"""Patterns of topics: with the Python library `websockets`, and streams and polls over HTTP."""

import json

from engine import DEADLINE, curl, message, topic
from with_streams import Stream, events


class Places:
    """The cursor of a pattern, as a client keeps it."""

    def __init__(self, text):
        self.life, parts = text.split("-", 1)
        self.parts = parts.split(".")

    def update(self, at):
        home, number = at.split(".")
        self.parts[int(home)] = number

    def __str__(self):
        return f"{self.life}-{'.'.join(self.parts)}"


class Reader:
    """A connection of the line protocol that reads one pattern."""

    def __init__(self, engine, pattern, since="latest"):
        self.ws = engine.line()
        self.pattern = pattern
        self.gaps = []
        self.ws.send(f"SUB {pattern} since={since} id=s")
        word, token, places = self.ws.recv(timeout=DEADLINE).split(" ")
        assert (word, token) == ("OK", "s")
        self.places = Places(places)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def next(self):
        """Returns topic and payload of the next message, or None at the end of what there was."""
        while True:
            text = self.ws.recv(timeout=DEADLINE)
            if text.startswith("EOS "):
                _, pattern, places = text.split(" ")
                assert pattern == self.pattern
                self.places = Places(places)
                return None
            if text.startswith("GAP "):
                self.gaps.append(text.split(" "))
                continue
            name, _, options, payload = message(text)
            options = dict(option.split("=", 1) for option in options)
            assert options["of"] == self.pattern
            if "at" in options:
                self.places.update(options["at"])
            return name, payload

    def until_end(self):
        """Returns everything that comes before the end of what there was."""
        return list(iter(self.next, None))


def test_a_pattern_has_what_there_is_and_what_comes(engine):
    """A reader gets the newest message of each topic that matches, is told the end, and then what comes, also of topics that are new; and nothing of others."""
    base = topic("pattern")
    for name in ["a", "b", "b", "c/d"]:
        engine.publish(f"{base}/{name}", f"old {name}")
    with Reader(engine, f"{base}/+") as reader:
        assert sorted(reader.until_end()) == [(f"{base}/a", "old a"), (f"{base}/b", "old b")]
        for name in ["a", "c/d", "new", "a"]:
            engine.publish(f"{base}/{name}", f"new {name}")
        came = [reader.next() for _ in range(3)]
        assert sorted(came) == [(f"{base}/a", "new a"), (f"{base}/a", "new a"), (f"{base}/new", "new new")]
        reader.ws.send(f"UNSUB {base}/+ id=u")
        assert reader.ws.recv(timeout=DEADLINE) == "OK u"
        engine.publish(f"{base}/a", "unheard")
        reader.ws.send("PING p")
        assert reader.ws.recv(timeout=DEADLINE) == "PONG p"


def test_places_are_gone_on_from(engine):
    """Whoever comes back with its places gets what it missed, once and in the order of each topic; of places that nobody gave it is told."""
    base = topic("places")
    with Reader(engine, f"{base}/%23".replace("%23", "#"), "live") as reader:
        assert reader.until_end() == []
        for n in range(10):
            engine.publish(f"{base}/{n % 3}", str(n))
        came = [reader.next() for _ in range(10)]
        places = str(reader.places)
    assert sorted(int(payload) for _, payload in came) == list(range(10))
    for n in range(10, 20):
        engine.publish(f"{base}/{n % 4}", str(n))
    with Reader(engine, f"{base}/#", places) as again:
        missed = again.until_end()
        assert sorted(int(payload) for _, payload in missed) == list(range(10, 20)) and again.gaps == []
        for name in range(4):
            numbers = [int(payload) for topic_of, payload in missed if topic_of == f"{base}/{name}"]
            assert numbers == sorted(numbers)
    with Reader(engine, f"{base}/#", "~00000000-1.1") as lost:
        assert len(lost.until_end()) == 4
        assert [gap[1:] for gap in lost.gaps] == [[f"{base}/#", "00000000-0", "00000000-0", "0", "epoch", f"of={base}/#"]]


def test_patterns_over_http(engine):
    """An event stream goes on from its last id, a stream of objects from the places of its messages, and polls from the cursor of each answer; nothing is missing and nothing comes twice."""
    base = topic("http")
    path = f"/topics/{base}%2F%2B".replace("/topics/test/", "/topics/test%2F")
    for n in range(5):
        engine.publish(f"{base}/{n}", f"old {n}")
    sse = Stream(engine, f"{path}?transport=sse")
    ended = lambda data: b"corecast-snapshot-end" in data and b"\nid: ~" in data.split(b"corecast-snapshot-end")[1]
    sse.until(ended, "the end of what there was")
    objects = Stream(engine, f"{path}?transport=stream&since=live")
    objects.until(lambda data: b"snapshot_end" in data, "where it begins")
    engine.publish(f"{base}/new", "first")
    told = sse.until(lambda data: b"first" in data and data.rstrip().split(b"\n")[-1].startswith(b"id: ~") and data, "news")
    found, last = events(told)
    assert sorted(data for _, event, data, _ in found if event == "message") == ["first"] + [f"old {n}" for n in range(5)]
    lines = objects.until(lambda data: b"first" in data and data.endswith(b"\n") and data, "news").decode().split("\n")
    values = [json.loads(line) for line in lines if line]
    places = Places(values[0]["snapshot_end"]["cursor"])
    places.update(values[-1]["at"])
    assert (values[-1]["of"], values[-1]["data"]) == (f"{base}/+", "first")
    sse.close()
    objects.close()
    engine.publish(f"{base}/3", "second")
    sse = Stream(engine, f"{path}?transport=sse", {"Last-Event-ID": last})
    told = sse.until(lambda data: b"second" in data and ended(data) and data, "what was missed")
    assert [data for _, event, data, _ in events(told)[0] if event == "message"] == ["second"]
    objects = Stream(engine, f"{path}?transport=stream&since={places}")
    lines = objects.until(lambda data: b"snapshot_end" in data and data.endswith(b"\n") and data, "what was missed")
    values = [json.loads(line) for line in lines.decode().split("\n") if line]
    assert [value["data"] for value in values if "data" in value] == ["second"]
    sse.close()
    objects.close()
    came, cursor = [], "latest"
    while True:
        answer = curl(f"{engine.url}{path}?since={cursor}")
        assert answer.status == 200, answer.body
        cursor = answer.headers["corecast-cursor"]
        if not answer.json():
            break
        came += [value["topic"] for value in answer.json()]
    assert sorted(came) == [f"{base}/{name}" for name in ["0", "1", "2", "3", "4", "new"]]
    answer = curl(f"{engine.url}{path}?since={cursor}&transport=long-poll&wait=1")
    assert (answer.status, answer.headers["corecast-cursor"]) == (204, cursor)


def test_what_is_no_pattern_is_told(engine):
    """What breaks a rule of patterns, or cannot be had of one, is a 400 or an ERR by its name, and the connection goes on."""
    with engine.line() as ws:
        for words, code in [
            ("a/+b", "bad-topic"),
            ("a/#/b", "bad-topic"),
            ("a/+ conflate", "bad-command"),
            ("a/+ since=earliest", "bad-command"),
            ("a/+ fields=x", "bad-command"),
            ("a since=~1a2b3c4d-1", "bad-command"),
        ]:
            ws.send(f"SUB {words} id=e")
            assert ws.recv(timeout=DEADLINE).startswith(f"ERR e {code} "), words
        ws.send("PUB a/+ id=p\nx")
        assert ws.recv(timeout=DEADLINE).startswith("ERR p bad-topic ")
    for path in ["a%2F%2B?transport=value", "a%2F%2Bb", "a%2F%2B?since=-3", "a%2F%2B?transport=sse&every=10"]:
        assert curl(f"{engine.url}/topics/{path}").status == 400, path
    assert curl(f"{engine.url}/topics/a%2F%2B", "--data-binary", "x").status == 400
