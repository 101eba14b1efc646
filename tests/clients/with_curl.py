"""HTTP with curl: publish, poll, value, batches, refusals."""

import base64
import json

from engine import Engine, curl, topic


def error_of(answer, status):
    """Shows that an answer is the error we want, with a reason in JSON."""
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["content-type"].startswith("application/json"), answer.headers
    return answer.json()["error"]


def test_publish_and_poll(engine):
    """A published message is answered with its cursor, and polled with topic, cursor, event and data."""
    name = topic("poll")
    answer = curl(f"{engine.url}/topics/{name}", "-d", "hello", "-H", "Corecast-Event: tick")
    assert answer.status == 200
    published = answer.json()
    assert published["topic"] == name
    answer = curl(f"{engine.url}/topics/{name}")
    assert answer.status == 200
    assert answer.json() == [{"topic": name, "cursor": published["cursor"], "event": "tick", "data": "hello"}]
    assert answer.headers["content-type"].startswith("application/json")


def test_answers_tell_proxies_and_browsers(engine):
    """Every answer says that nobody may keep, buffer or reinterpret it."""
    for path in ["/topics/test/never-published", "/nowhere", "/topics/a//b"]:
        headers = curl(engine.url + path).headers
        assert headers["cache-control"] == "no-cache, no-transform", path
        assert headers["x-accel-buffering"] == "no", path
        assert headers["x-content-type-options"] == "nosniff", path


def test_poll_since(engine):
    """A poll delivers what `since` asks for, and an empty list when there is nothing new."""
    name = topic("since")
    cursors = [engine.publish(name, str(n)) for n in range(4)]
    for since, expected in [
        ("latest", ["3"]),
        ("earliest", ["0", "1", "2", "3"]),
        ("-2", ["2", "3"]),
        (cursors[0], ["1", "2", "3"]),
        (cursors[3], []),
        ("live", []),
    ]:
        answer = curl(f"{engine.url}/topics/{name}?since={since}")
        assert answer.status == 200
        assert [message["data"] for message in answer.json()] == expected, since
    assert error_of(curl(f"{engine.url}/topics/{name}?since=yesterday"), 400)


def test_etag(engine):
    """The ETag of a poll, sent back, is answered with 304 until something new is published."""
    name = topic("etag")
    engine.publish(name, "one")
    tag = curl(f"{engine.url}/topics/{name}").headers["etag"]
    assert curl(f"{engine.url}/topics/{name}", "-H", f"If-None-Match: {tag}").status == 304
    engine.publish(name, "two")
    answer = curl(f"{engine.url}/topics/{name}", "-H", f"If-None-Match: {tag}")
    assert answer.status == 200 and answer.json()[-1]["data"] == "two"


def test_value(engine):
    """`transport=value` is the newest payload itself, with a type that fits, or 404."""
    name = topic("value")
    assert curl(f"{engine.url}/topics/{name}?transport=value").status == 404
    engine.publish(name, "grün")
    answer = curl(f"{engine.url}/topics/{name}?transport=value")
    assert (answer.status, answer.body.decode()) == (200, "grün")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "etag" in answer.headers
    engine.publish(name, b"\xff\x00")
    answer = curl(f"{engine.url}/topics/{name}?transport=value")
    assert (answer.body, answer.headers["content-type"]) == (b"\xff\x00", "application/octet-stream")


def test_binary_is_base64(engine):
    """Data that is not UTF-8 is polled as base64, and says so."""
    name = topic("binary")
    engine.publish(name, b"\xff\x00\xfe")
    message = curl(f"{engine.url}/topics/{name}").json()[0]
    assert message["encoding"] == "base64" and base64.b64decode(message["data"]) == b"\xff\x00\xfe"


def test_batch(engine):
    """A batch publishes all its lines in order; base64 is decoded; an empty line at the end is none."""
    a, b = topic("batch"), topic("batch")
    lines = [
        {"topic": a, "data": "one"},
        {"topic": b, "data": base64.b64encode(b"\xff").decode(), "encoding": "base64"},
        {"topic": a, "data": "zwei ü \" \n", "event": "tick"},
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    answer = curl(f"{engine.url}/topics", "-H", "Content-Type: application/x-ndjson", "--data-binary", "@-", data=body)
    assert (answer.status, answer.json()) == (200, {"published": 3}), answer.body
    polled = curl(f"{engine.url}/topics/{a}?since=earliest").json()
    assert [message["data"] for message in polled] == ["one", "zwei ü \" \n"]
    assert polled[1]["event"] == "tick"
    assert curl(f"{engine.url}/topics/{b}?transport=value").body == b"\xff"


def test_any_json_in_a_batch(engine):
    """What is no string in a batch is the message, byte for byte as it stands in the line."""
    name = topic("batch-json")
    values = ['{"x": 1}', '[1,2,{"\\u00fc":"\\n"}]', "-1.50e+3", "true", "null", '{ "topic" : "b" }']
    body = "".join(f'{{"topic":"{name}","data":{value}}}\n' for value in values)
    answer = curl(f"{engine.url}/topics", "-H", "Content-Type: application/x-ndjson", "--data-binary", "@-", data=body)
    assert (answer.status, answer.json()) == (200, {"published": len(values)}), answer.body
    assert [message["data"] for message in curl(f"{engine.url}/topics/{name}?since=earliest").json()] == values


def test_bad_batch_publishes_nothing(engine):
    """All lines of a batch are checked before any is published."""
    name = topic("bad-batch")
    good = json.dumps({"topic": name, "data": "x"})
    for bad in [
        "{",
        "[]",
        '{"topic":"a"}',
        '{"data":"x"}',
        '{"topic":"a//b","data":"x"}',
        '{"topic":"a","data":"%%","encoding":"base64"}',
        '{"topic":"a","data":1,"encoding":"base64"}',
        '{"topic":"a","data":{"x":1}',
        '{"topic":"a","data":"\\ud800"}',
        '{"topic":"a","data":"x"} trailing',
    ]:
        body = f"{good}\n{bad}\n"
        answer = curl(
            f"{engine.url}/topics", "-H", "Content-Type: application/x-ndjson", "--data-binary", "@-", data=body
        )
        assert error_of(answer, 400), bad
    assert curl(f"{engine.url}/topics/{name}").json() == []


def test_delete(engine):
    """DELETE clears history and snapshot; what is published afterwards is new."""
    name = topic("delete")
    engine.publish(name, "old")
    assert curl(f"{engine.url}/topics/{name}", "-X", "DELETE").status in (200, 204)
    assert curl(f"{engine.url}/topics/{name}?since=earliest").json() == []
    assert curl(f"{engine.url}/topics/{name}?transport=value").status == 404
    engine.publish(name, "new")
    assert [message["data"] for message in curl(f"{engine.url}/topics/{name}?since=earliest").json()] == ["new"]


def test_topics_in_urls(engine):
    """A topic is percent-encoded in a URL as usual, and `/` may stand as it is."""
    cursor = engine.publish("test/a%20b/gr%C3%BCn%2Fx", "x")
    message = curl(f"{engine.url}/topics/test%2Fa%20b/gr%c3%bcn/x").json()[0]
    assert (message["topic"], message["cursor"]) == ("test/a b/grün/x", cursor)


def test_bad_topics(engine):
    """A bad topic is refused with 400 and the reason, for reading and for publishing."""
    for path in ["", "a//b", "a/", "%00", "a%0ab", "%ff", "a/+", "%23", "%23/a", "a+", "a*", "%2", "%zz", "x" * 256]:
        url = f"{engine.url}/topics/{path}"
        if path not in ("a/+", "%23"):  # Patterns can be read.
            assert error_of(curl(url, "--path-as-is"), 400), path
        assert error_of(curl(url, "--path-as-is", "-d", "x"), 400), path
    assert error_of(curl(f"{engine.url}/topics/$sys/x", "-d", "x"), 400)
    assert curl(f"{engine.url}/topics/{'x' * 255}", "-d", "x").status == 200


def test_bad_events(engine):
    """The name of an event is 1 to 64 visible ASCII characters, and none of the engine's own."""
    name = topic("event")
    for event in ["two words", "x" * 65, "tab\there", "corecast-gap"]:
        answer = curl(f"{engine.url}/topics/{name}", "-d", "x", "-H", f"Corecast-Event: {event}")
        assert error_of(answer, 400), event
    assert curl(f"{engine.url}/topics/{name}", "-d", "x", "-H", f"Corecast-Event: {'x' * 64}").status == 200


def test_too_large(engine):
    """A payload of the largest size passes; one byte more is refused with 413, sized or chunked."""
    name = topic("large")
    url = f"{engine.url}/topics/{name}"
    for framing in [[], ["-H", "Transfer-Encoding: chunked"]]:
        assert curl(url, *framing, "--data-binary", "@-", data=b"x" * 65536).status == 200
        assert error_of(curl(url, *framing, "--data-binary", "@-", data=b"x" * 65537), 413)
    assert len(curl(f"{url}?transport=value").body) == 65536


def test_bodies(engine):
    """Chunked bodies, expectations of 100, empty bodies and HTTP/1.0 publish alike."""
    for arguments in [
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Expect: 100-continue"],
        ["--http1.0"],
        ["-H", "Connection: close"],
    ]:
        name = topic("body")
        engine.publish(name, "payload", *arguments)
        assert curl(f"{engine.url}/topics/{name}?transport=value").body == b"payload", arguments
    name = topic("body")
    engine.publish(name, "")
    assert curl(f"{engine.url}/topics/{name}").json()[0]["data"] == ""


def test_methods(engine):
    """HEAD has the head of GET without its body, OPTIONS says what is allowed, other methods are 405."""
    name = topic("methods")
    engine.publish(name, "x")
    url = f"{engine.url}/topics/{name}"
    head = curl(url, "--head")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == curl(url).headers["content-length"]
    assert curl(url, "-X", "OPTIONS").status in (200, 204)
    for method in ["PUT", "PATCH", "TRACE"]:
        answer = curl(url, "-X", method)
        assert answer.status == 405, (method, answer.status)
        assert "GET" in answer.headers["allow"], answer.headers
    assert curl(f"{engine.url}/nowhere").status == 404


def test_kept_alive(engine):
    """Several requests of one curl run use one connection."""
    url = f"{engine.url}/topics/{topic('kept')}"
    answer = curl(url, "-d", "x", "--write-out", "%{num_connects},", url, url, url)
    assert answer.status == 200
    made = [part[-1:] for part in answer.body.split(b",") if part[-1:].isdigit()]
    assert made == [b"1", b"0", b"0", b"0"], answer.body


def test_history_limits(_):
    """The history is bounded by number and by bytes; the newest message is kept whatever the bounds."""
    with Engine("--shards", "1", "--history-messages", "3", "--history-bytes", "1k") as engine:
        name = topic("history")
        for n in range(5):
            engine.publish(name, str(n))
        polled = curl(f"{engine.url}/topics/{name}?since=earliest").json()
        assert [message["data"] for message in polled] == ["2", "3", "4"]
        engine.publish(name, "x" * 2000)
        polled = curl(f"{engine.url}/topics/{name}?since=earliest").json()
        assert [len(message["data"]) for message in polled] == [2000]
