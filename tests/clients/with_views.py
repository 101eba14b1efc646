"""Records and views over a real kernel: topics of values, parts of them, conditions, and changes, on every transport."""

import contextlib
import http.client
import json
import pathlib
import tempfile
import urllib.parse

from engine import DEADLINE, Engine, curl

RULES = """
[[topics]]
match = "quotes/#"
record = "merge"

[[topics]]
match = "orders/#"
record = "command"
key = "id"
rows = 5

[[topics]]
match = "raw/#"
record = "raw"
"""


@contextlib.contextmanager
def values():
    """Runs an engine of three shards whose topics have values."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "corecast.toml"
        file.write_text(RULES)
        with Engine("--shards", "3", "--config", str(file)) as engine:
            yield engine


def merged(value, patch):
    """Applies a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    value = dict(value) if isinstance(value, dict) else {}
    for name, member in patch.items():
        if member is None:
            value.pop(name, None)
        else:
            value[name] = merged(value.get(name), member)
    return value


def post(engine, topic, data, *headers):
    extra = [word for header in headers for word in ("-H", header)]
    return curl(f"{engine.url}/topics/{topic}", "--data-binary", "@-", *extra, data=data)


def lines(ws, count):
    """Returns the next lines of a WebSocket, each with its payload."""
    return [ws.recv(timeout=DEADLINE).partition("\n")[::2] for _ in range(count)]


def words(heads):
    """Leaves the cursors out."""
    return [" ".join(word for place, word in enumerate(head.split(" ")) if place != 2) for head, _ in heads]


def stream(engine, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=DEADLINE)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200, (answer.status, answer.read())
    return answer


def objects(answer, count):
    """Returns the next objects of a stream of JSON lines."""
    found = []
    while len(found) < count:
        line = answer.readline()
        assert line, "the stream has ended"
        if line.strip():
            found.append(json.loads(line))
    return found


def test_a_record_is_merged(_):
    """Publishers send what changed; who comes gets all of it, and who asks for changes only these, and both end up with the same."""
    with values() as engine, engine.line() as whole, engine.line() as changes:
        assert post(engine, "quotes/eur", '{"bid":1,"ask":2,"venue":"a longer name of a venue"}').status == 200
        whole.send("SUB quotes/eur id=1")
        changes.send("SUB quotes/eur delta fields=bid,venue id=1")
        got = lines(whole, 3)
        assert words(got)[1:] == ["MSG quotes/eur", "EOS quotes/eur"], got
        assert json.loads(got[1][1]) == {"bid": 1, "ask": 2, "venue": "a longer name of a venue"}
        value = json.loads(lines(changes, 3)[1][1])
        for patch in ({"bid": 3}, {"ask": 9}, {"venue": None}, {"bid": 4, "venue": "x"}):
            assert post(engine, "quotes/eur", json.dumps(patch)).status == 200
        last = json.loads(lines(whole, 4)[-1][1])
        assert last == {"bid": 4, "ask": 9, "venue": "x"}
        for head, payload in lines(changes, 3):
            value = merged(value, json.loads(payload)) if "op=merge" in head else json.loads(payload)
        assert value == {"bid": 4, "venue": "x"}
        answer = curl(f"{engine.url}/topics/quotes/eur?transport=value")
        assert json.loads(answer.body) == last


def test_rows_come_and_go(_):
    """Rows are put, patched and deleted, by key in the payload, in a header, in a word and in a batch; newcomers get those that are there."""
    with values() as engine, engine.line() as ws:
        assert post(engine, "orders/a", '{"id":7,"qty":5}').status == 200
        assert post(engine, "orders/a", "no record", "Corecast-Message-Key: odd%20one").status == 200
        batch = [
            {"topic": "orders/a", "data": {"id": "b", "qty": 1}},
            {"topic": "orders/a", "key": "7", "op": "merge", "data": {"qty": 6}},
            {"topic": "orders/a", "key": "odd one", "op": "delete"},
        ]
        body = "\n".join(json.dumps(line) for line in batch)
        answer = curl(f"{engine.url}/topics", "--data-binary", "@-", "-H", "Content-Type: application/x-ndjson", data=body)
        assert answer.status == 200 and json.loads(answer.body) == {"published": 3}, answer.body
        ws.send("SUB orders/a id=1")
        got = lines(ws, 4)
        assert words(got)[1:] == ["MSG orders/a key=b", "MSG orders/a key=7", "EOS orders/a"], got
        assert json.loads(got[2][1]) == {"id": 7, "qty": 6}
        ws.send("PUB orders/a key=b op=delete id=2\n")
        assert "MSG orders/a key=b op=delete" in words(lines(ws, 2))
        assert curl(f"{engine.url}/topics/orders/a", "-X", "DELETE").status in (200, 204)
        assert words(lines(ws, 1)) == ["MSG orders/a op=delete"]
        assert curl(f"{engine.url}/topics/orders/a").json() == [], "what is gone is not polled"


def test_who_comes_back_knows_what_is_gone(_):
    """A cursor brings what changed since, deletions among it."""
    with values() as engine, engine.line() as ws:
        for key in range(4):
            assert post(engine, "orders/b", json.dumps({"id": key})).status == 200
        ws.send("SUB orders/b id=1")
        cursor = lines(ws, 6)[-1][0].split(" ")[2]
        post(engine, "orders/b", "", "Corecast-Op: delete", "Corecast-Message-Key: 1")
        post(engine, "orders/b", '{"id":3,"x":1}')
        with engine.line() as again:
            again.send(f"SUB orders/b since={cursor} id=1")
            assert words(lines(again, 4))[1:] == ["MSG orders/b key=1 op=delete", "MSG orders/b key=3", "EOS orders/b"]


def test_conditions_on_every_transport(_):
    """Who wants some messages gets these, over WebSockets, streams and polls."""
    query = urllib.parse.urlencode({"where": "n > 2 AND name LIKE 'b%'", "fields": "n"})
    path = f"/topics/plain?{query}"
    with values() as engine, engine.ws(path) as raw, engine.line() as line:
        ndjson = stream(engine, f"{path}&transport=stream")
        sse = stream(engine, path, Accept="text/event-stream")
        line.send("SUB plain where=n%20>%202%20AND%20name%20LIKE%20'b%25' fields=n id=1")
        lines(line, 1)
        for payload in ('{"n":1,"name":"b"}', '{"n":3,"name":"c"}', "text", '{"n":4,"name":"bc","long":"x"}', '{"n":5,"name":"b"}'):
            assert post(engine, "plain", payload).status == 200
        wanted = ['{"n":4}', '{"n":5}']
        assert [raw.recv(timeout=DEADLINE) for _ in wanted] == wanted
        assert [payload for _, payload in lines(line, 2)] == wanted
        assert [message["data"] for message in objects(ndjson, 2)] == wanted
        data = []
        while len(data) < 2:
            text = sse.readline().decode()
            data += [text[6:].strip()] if text.startswith("data: ") else []
        assert data == wanted
        for transport in ("poll", "long-poll"):
            answer = curl(f"{engine.url}{path}&transport={transport}&since=earliest")
            assert [message["data"] for message in answer.json()] == wanted, answer.body
        assert engine.total("filtered") > 0


def test_streams_of_rows(_):
    """Every stream says keys, deletions and the end of what there was in its own words."""
    with values() as engine:
        post(engine, "orders/c", '{"id":"k","n":1}')
        post(engine, "orders/c", '{"id":"other","n":1}')
        ndjson = stream(engine, "/topics/orders/c?transport=stream&where=n%20%3C%205")
        sse = stream(engine, "/topics/orders/c?delta", Accept="text/event-stream")
        got = objects(ndjson, 3)
        assert [row.get("key") for row in got] == ["k", "other", None] and "snapshot_end" in got[2], got
        post(engine, "orders/c", '{"id":"k","n":9}')
        assert [(row["key"], row["op"]) for row in objects(ndjson, 1)] == [("k", "delete")]
        events = []
        while "corecast-merge" not in events:
            text = sse.readline().decode()
            assert text, events
            events += [text[7:].strip()] if text.startswith("event: ") else []
        assert events == ["corecast-snapshot-end", "corecast-merge"]
        for line in iter(sse.readline, b"\n"):
            if line.startswith(b"data: "):
                change = json.loads(line[6:])
        assert change["key"] == "k" and json.loads(change["data"]) == {"n": 9}


def test_nothing_for_newcomers(_):
    """Of a raw topic a newcomer gets what comes."""
    with values() as engine, engine.line() as ws:
        post(engine, "raw/a", "old")
        ws.send("SUB raw/a id=1")
        lines(ws, 1)
        post(engine, "raw/a", "new")
        assert [payload for _, payload in lines(ws, 1)] == ["new"]


def test_bad_input_is_told(_):
    """What makes no sense is refused by name, with the place, and costs nobody else anything."""
    with values() as engine, engine.line() as ws:
        for options, says in (
            ("where=a%20>", "bad-command where: "),
            ("where=" + "(" * 60 + "a=1" + ")" * 60, "bad-command where: "),
            ("fields=a,,b", "bad-command fields: "),
            ("where=%zz", "bad-command"),
            ("delta=x", "bad-command delta is"),
        ):
            ws.send(f"SUB quotes/x {options} id=1")
            (head, _), = lines(ws, 1)
            assert head.startswith(f"ERR 1 {says}"), head
        for topic, data, headers, status, says in (
            ("quotes/x", "no record", (), 400, "JSON objects"),
            ("quotes/x", '{"a":1,"a":2}', (), 400, "JSON objects"),
            ("quotes/x", "[" * 100, (), 400, "JSON objects"),
            ("orders/x", '{"qty":1}', (), 400, "needs a key"),
            ("orders/x", '{"id":{}}', (), 400, "needs a key"),
            ("orders/x", "x", ("Corecast-Message-Key: " + "k" * 300,), 400, ""),
            ("orders/x", "x", ("Corecast-Message-Key: k", "Corecast-Op: twist"), 400, "op is"),
            ("plain", "x", ("Corecast-Message-Key: k",), 400, "no keys"),
            ("plain", "x", ("Corecast-Op: delete",), 400, "no keys"),
        ):
            answer = post(engine, topic, data, *headers)
            assert answer.status == status and says.encode() in answer.body, (topic, data, answer.status, answer.body)
        for key in range(6):
            answer = post(engine, "orders/full", json.dumps({"id": key}))
            assert answer.status == (200 if key < 5 else 507), (key, answer.status, answer.body)
        for query in ("transport=value&fields=a", "where=a%20%3E", "fields=%2C", "delta=maybe"):
            assert curl(f"{engine.url}/topics/quotes/x?{query}").status == 400, query
        assert post(engine, "quotes/x", '{"fine":true}').status == 200


def test_views_of_a_topic_are_bounded(_):
    """So many different views are read on a core; one that others have costs nothing."""
    with Engine("--shards", "1", "--max-views", "3") as engine, engine.line() as first, engine.line() as second:
        with contextlib.ExitStack() as readers:
            for n in range(3):
                ws = readers.enter_context(engine.line())
                ws.send(f"SUB t fields=a{n} id=1")
                assert lines(ws, 1)[0][0].startswith("OK 1")
            first.send("SUB t fields=another id=1")
            assert lines(first, 1)[0][0].startswith("ERR 1 too-many"), "a fourth view"
            second.send("SUB t fields=a1 id=1")
            assert lines(second, 1)[0][0].startswith("OK 1")
