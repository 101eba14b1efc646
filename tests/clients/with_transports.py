"""The HTTP transports with curl and httpx: what arrives, what is told, what is refused."""

import json
import re
import threading
import time

import httpx
from engine import DEADLINE, Engine, curl, eventually, sequence, topic
from transports import STREAMS, Stream, events, items

LISTS = ("poll", "long-poll", "jsonp")


def query(transport, *names, **options):
    """Makes the query for these topics; words of options are written with `-` as they are with `_`."""
    pairs = [f"topic={name}" for name in names] + [f"transport={transport}"]
    return "/topics?" + "&".join(pairs + [f"{name}={value}" for name, value in options.items()])


def objects(transport, answer):
    """Reads the objects of an answer that is a list."""
    assert answer.status == 200, (transport, answer.status, answer.body)
    if transport != "jsonp":
        return answer.json()
    return json.loads(re.fullmatch(r"/\*\*/[\w.$]+\((.*)\);", answer.body.decode(), re.DOTALL).group(1))


def test_streams_deliver(engine):
    """Every stream sends its head at once, the snapshot, and then what comes, text of every kind unharmed."""
    payloads = ["one", "", "two\nlines\r\nand\rmore", "grün \u2028 </script> & \" \\", " leading", "x" * 5000]
    for transport, content_type in STREAMS.items():
        name = topic(transport)
        with Stream(f"{engine.url}/topics/{name}?transport={transport}") as stream:
            assert f"Content-Type: {content_type}" in stream.head, stream.head
            assert "Transfer-Encoding: chunked" in stream.head and " 200 " in stream.head, stream.head
            cursors = [engine.publish(name, payload) for payload in payloads]
            got = stream.items(transport, len(payloads))
            # An event stream cannot say which line end it was (WHATWG: all become LF).
            same = [p.replace("\r\n", "\n").replace("\r", "\n") if transport == "sse" else p for p in payloads]
            assert [item["data"] for item in got] == same, transport
            assert [item["cursor"] for item in got] == cursors, transport
        with Stream(f"{engine.url}/topics/{name}?transport={transport}") as stream:
            assert stream.items(transport, 1)[0]["cursor"] == cursors[-1], transport


def test_several_topics(engine):
    """One request takes several topics over every transport; the order within each is kept."""
    for transport in STREAMS:
        a, b, c = topic("a"), topic("b"), topic("c")
        engine.publish(a, "a0")
        with Stream(engine.url + query(transport, a, b, c, since="earliest")) as stream:
            stream.items(transport, 1)
            for n in range(1, 4):
                engine.publish(a, f"a{n}")
                engine.publish(b, f"b{n}")
            got = stream.items(transport, 7)
            for name, expected in [(a, ["a0", "a1", "a2", "a3"]), (b, ["b1", "b2", "b3"]), (c, [])]:
                assert [item["data"] for item in got if item["topic"] == name] == expected, transport
    for transport in LISTS:
        a, b = topic("a"), topic("b")
        engine.publish(a, "a1")
        engine.publish(b, "b1")
        answer = curl(engine.url + query(transport, a, b))
        got = objects(transport, answer)
        assert sorted(item["data"] for item in got) == ["a1", "b1"], transport
        cursors = answer.headers["corecast-cursor"].split(",")
        assert cursors == [next(i["cursor"] for i in got if i["topic"] == name) for name in (a, b)], transport
        engine.publish(b, "b2")
        again = curl(engine.url + query(transport, a, b, since=",".join(cursors)))
        assert [item["data"] for item in objects(transport, again)] == ["b2"], transport


def test_accept_chooses_sse(engine):
    """`Accept: text/event-stream`, as EventSource sends it, is enough; `transport` in the query wins over it."""
    name = topic("accept")
    cursor = engine.publish(name, "hello", "-H", "Corecast-Event: tick")
    with Stream(f"{engine.url}/topics/{name}", "-H", "Accept: text/event-stream") as stream:
        stream.items("sse", 1)
        blocks = events(stream.text)
        assert int(blocks[0]["retry"]) > 0, blocks
        assert blocks[1] == {"id": cursor, "event": "tick", "data": "hello"}, blocks
    answer = curl(f"{engine.url}/topics/{name}?transport=poll", "-H", "Accept: text/event-stream")
    assert answer.json()[0]["data"] == "hello"


def test_sse_signs_of_life(engine):
    """An EventSource gets padding at once and a second sign of life soon after, for proxies that hold back the first."""
    with Stream(f"{engine.url}/topics/{topic('quiet')}?transport=sse") as stream:
        eventually(lambda: len(stream.text) > 2048, "padding")
        start = time.monotonic()
        eventually(lambda: stream.text.endswith(":\n\n"), "a second sign of life")
        assert time.monotonic() - start < 1.5


def test_binary(engine):
    """Payloads that are not UTF-8 go as base64 and say so; multipart carries them as they are."""
    name = topic("binary")
    engine.publish(name, b"\xff\x00\xfe")
    with Stream(f"{engine.url}/topics/{name}?transport=sse") as stream:
        stream.items("sse", 1)
        assert events(stream.text)[1]["event"] == "corecast-base64"
        assert events(stream.text)[1]["data"] == "/wD+"
    with Stream(f"{engine.url}/topics/{name}?transport=stream") as stream:
        assert stream.items("stream", 1)[0] | {"cursor": 0} == {
            "topic": name, "cursor": 0, "data": "/wD+", "encoding": "base64"
        }
    with Stream(f"{engine.url}/topics/{name}?transport=multipart") as stream:
        eventually(lambda: b"\r\n\r\n\xff\x00\xfe\r\n--" in stream.received, "the bytes")
        assert b"Content-Type: application/octet-stream\r\n" in stream.received


def test_long_poll(engine):
    """A long poll answers as soon as there is a message, or with 204 and its cursor when its time is over."""
    name = topic("long")
    engine.publish(name, "before")
    url = f"{engine.url}/topics/{name}?transport=long-poll"
    for arguments, extra in [([], "&wait=1"), (["-H", "Prefer: respond-async, wait=1"], "")]:
        start = time.monotonic()
        answer = curl(f"{url}&since=live{extra}", *arguments)
        assert (answer.status, answer.body) == (204, b""), arguments
        assert 0.9 <= time.monotonic() - start < 5, arguments
    # A message in the time between two polls is not lost.
    engine.publish(name, "between")
    answer = curl(f"{url}&since={answer.headers['corecast-cursor']}")
    assert [item["data"] for item in objects("long-poll", answer)] == ["between"]
    with Stream(f"{url}&since={answer.headers['corecast-cursor']}") as stream:
        eventually(lambda: engine.stats()["total"]["subscriptions"] >= 1, "the poll waits")
        start = time.monotonic()
        engine.publish(name, "while it waits")
        assert stream.end() == 0 and time.monotonic() - start < 1
        assert json.loads(stream.text)[0]["data"] == "while it waits"
    eventually(lambda: engine.stats()["total"]["subscriptions"] == 0, "its subscription has ended")


def test_long_poll_kept_alive(engine):
    """Long polls follow one another on one connection, with other requests between them."""
    name = topic("kept")
    engine.publish(name, "x")
    url = f"{engine.url}/topics/{name}?transport=long-poll&since=earliest"
    answer = curl(url, "--write-out", "%{num_connects},", f"{engine.url}/topics/{name}", url, url)
    made = [part[-1:] for part in answer.body.split(b",") if part[-1:].isdigit()]
    assert made == [b"1", b"0", b"0", b"0"], answer.body


def test_a_loop_of_long_polls(engine):
    """A client that polls again and again with the cursor it was given gets every message once, in order."""
    name, count = topic("loop"), 200

    def publish():
        for n in range(count):
            engine.publish(name, str(n))

    publisher = threading.Thread(target=publish)
    got, cursor = [], "live"
    with httpx.Client(base_url=engine.url, timeout=DEADLINE, trust_env=False) as client:
        parameters = {"transport": "long-poll", "wait": "5"}
        first = client.get(f"/topics/{name}", params={"transport": "poll", "since": cursor})
        cursor = first.headers["corecast-cursor"]
        publisher.start()
        while len(got) < count:
            answer = client.get(f"/topics/{name}", params=parameters | {"since": cursor})
            assert answer.status_code == 200, (answer.status_code, len(got))
            cursor = answer.headers["corecast-cursor"]
            got += answer.json()
    publisher.join()
    # Nobody had subscribed before the first message: its epoch may be told as changed.
    assert [item["data"] for item in got if "gap" not in item] == [str(n) for n in range(count)]


def test_jsonp(engine):
    """A script calls the callback with the list, and nothing in a message can end the script."""
    name = topic("jsonp")
    engine.publish(name, "</script><!-- \u2028 &")
    url = f"{engine.url}/topics/{name}?transport=jsonp"
    answer = curl(f"{url}&callback=a.b$")
    assert answer.headers["content-type"].startswith("application/javascript")
    assert answer.body.startswith(b"/**/a.b$([{") and answer.body.endswith(b"}]);"), answer.body
    assert b"<" not in answer.body and "\u2028".encode() not in answer.body
    assert objects("jsonp", answer)[0]["data"] == "</script><!-- \u2028 &"
    assert curl(url).body.startswith(b"/**/callback(["), "a callback that is not named"
    start = time.monotonic()
    answer = curl(f"{url}&callback=f&wait=1&since=live")
    assert answer.body == b"/**/f([]);" and time.monotonic() - start > 0.9


def test_forever_frame_is_a_page(engine):
    """A forever frame is a page whose scripts call the callback; a hostile payload stays inside its string."""
    name = topic("frame")
    engine.publish(name, "</script><script>alert(1)</script><!--")
    with Stream(f"{engine.url}/topics/{name}?transport=forever-frame&callback=parent.got") as stream:
        assert stream.items("forever-frame", 1)[0]["data"] == "</script><script>alert(1)</script><!--"
        assert stream.text.startswith("<!DOCTYPE html>") and "parent.got(m)" in stream.text
        assert "alert(1)</script>" not in stream.text
    with Stream(f"{engine.url}/topics/{name}?transport=forever-frame") as stream:
        eventually(lambda: "parent.corecast(m)" in stream.text, "the default callback")


def test_head(engine):
    """HEAD has the head of the answer alone, over every transport, and does not wait."""
    name = topic("head")
    engine.publish(name, "x")
    for transport, content_type in STREAMS.items():
        answer = curl(f"{engine.url}/topics/{name}?transport={transport}", "--head")
        assert (answer.status, answer.body) == (200, b""), transport
        assert answer.headers["content-type"] == content_type
    for transport in LISTS:
        answer = curl(f"{engine.url}/topics/{name}?transport={transport}&wait=1", "--head")
        assert (answer.status, answer.body) == (200, b""), transport
        assert "corecast-cursor" in answer.headers, transport
    eventually(lambda: engine.stats()["total"]["subscriptions"] == 0, "nobody is subscribed")


def test_http10(engine):
    """HTTP/1.0 and `Connection: close` get every transport; to 1.0 a stream is delimited by its end, without chunks."""
    name = topic("old")
    engine.publish(name, "x")
    for transport in STREAMS:
        with Stream(f"{engine.url}/topics/{name}?transport={transport}", "--http1.0") as stream:
            assert stream.items(transport, 1)[0]["data"] == "x"
            assert "Transfer-Encoding" not in stream.head and "Content-Length" not in stream.head, stream.head
            # A chunk's size would stand before the first bytes.
            assert not re.match(r"[0-9a-f]+\r\n", stream.text), stream.text[:20]
        with Stream(f"{engine.url}/topics/{name}?transport={transport}", "-H", "Connection: close") as stream:
            assert stream.items(transport, 1)[0]["data"] == "x"
    for transport in LISTS:
        for arguments in (["--http1.0"], ["-H", "Connection: close"]):
            answer = curl(f"{engine.url}/topics/{name}?transport={transport}", *arguments)
            assert objects(transport, answer)[0]["data"] == "x"
            assert answer.headers["connection"] == "close", (transport, arguments)


def test_conditional(engine):
    """An ETag sent back is answered with 304 until something new is there, also for a list of topics."""
    a, b = topic("etag"), topic("etag")
    engine.publish(a, "a")
    engine.publish(b, "b")
    for path in (f"/topics/{a}", f"/topics/{a}?transport=value", query("poll", a), query("poll", a, b)):
        answer = curl(engine.url + path)
        tag = answer.headers["etag"]
        same = curl(engine.url + path, "-H", f"If-None-Match: {tag}")
        assert (same.status, same.body) == (304, b""), path
        assert same.headers["etag"] == tag and same.headers["corecast-cursor"] == answer.headers["corecast-cursor"]
        for other in ('"00000000-0"', '"x"', tag.replace("-", ",-")):
            assert curl(engine.url + path, "-H", f"If-None-Match: {other}").status == 200, (path, other)
        engine.publish(a, "more")
        assert curl(engine.url + path, "-H", f"If-None-Match: {tag}").status == 200, path


def resume(engine, transport, names, count, every):
    """Reads so many messages of a run, coming back after every few with the cursors at hand; returns the data."""
    got, last, several = [], None, len(names) > 1
    while len(got) < count:
        arguments, options = [], {"since": "earliest"}
        if last and transport == "sse":
            arguments = ["-H", f"Last-Event-ID: {last}"]  # It wins over `since`.
        elif last:
            options["since"] = last
        path = query(transport, *names, **options)
        if not several:
            # In the path: the query always gets the ids of several.
            path = f"/topics/{names[0]}?transport={transport}&since={options['since']}"
        with Stream(engine.url + path, *arguments) as stream:
            want = min(every, count - len(got))
            stream.items(transport, want)
            if transport != "sse" or not several:
                part = stream.items(transport, want)[:want]
            else:
                # Only what stands before the last id is told by it.
                blocks = eventually(
                    lambda: (found := events(stream.text)) and "data" not in found[-1] and "id" in found[-1] and found,
                    "an id behind the events",
                )
                last = blocks[-1]["id"]
                part = [{"topic": e["topic"], "data": e["data"]} for e in blocks if "data" in e]
            assert all("gap" not in item for item in part), part
            got += part
        if transport == "sse" and not several:
            last = part[-1]["cursor"]
        elif transport != "sse":
            cursors = {item["topic"]: item["cursor"] for item in got}
            last = ",".join(cursors.get(name, "00000000-0") for name in names) if several else cursors[names[0]]
    return got


def test_resume(engine):
    """A stream that breaks anywhere goes on behind the last cursor or Last-Event-ID: no hole, no duplicate."""
    for transport in STREAMS:
        name, count = topic("resume"), 60
        publisher = threading.Thread(target=lambda: [engine.publish(name, str(n)) for n in range(count)])
        publisher.start()
        got = resume(engine, transport, [name], count, 7)
        publisher.join()
        assert [item["data"] for item in got] == [str(n) for n in range(count)], (transport, got[-1])


def test_resume_of_several(engine):
    """The combined cursor brings back several topics, each where it was; over SSE it is the last id."""
    for transport in ("sse", "stream"):
        a, b = topic("a"), topic("b")
        engine.publish(a, "a0")
        engine.publish(b, "b0")
        publisher = threading.Thread(
            target=lambda: [engine.publish(name, f"{text}{n}") for n in range(1, 20) for name, text in ((a, "a"), (b, "b"))]
        )
        publisher.start()
        got = resume(engine, transport, [a, b], 40, 6)
        publisher.join()
        for name, text in ((a, "a"), (b, "b")):
            assert [i["data"] for i in got if i["topic"] == name] == [f"{text}{n}" for n in range(20)], transport


def test_last_event_id(engine):
    """Last-Event-ID wins over `since`, as a header and in the query; an empty one is none; a wrong one is a 400."""
    name = topic("last")
    cursors = [engine.publish(name, str(n)) for n in range(4)]
    base = f"{engine.url}/topics/{name}?transport=sse&since=-1"
    for arguments, extra, expected in [
        ([], "", ["3"]),
        (["-H", f"Last-Event-ID: {cursors[1]}"], "", ["2", "3"]),
        ([], f"&last_event_id={cursors[0]}", ["1", "2", "3"]),
        (["-H", f"Last-Event-ID: {cursors[1]}"], f"&last_event_id={cursors[0]}", ["2", "3"]),
        (["-H", "Last-Event-ID;"], "", ["3"]),
    ]:
        with Stream(base + extra, *arguments) as stream:
            assert [item["data"] for item in stream.items("sse", len(expected))] == expected, (arguments, extra)
    for wrong in ("yesterday", "00000001-", f"{cursors[0]},{cursors[1]}", f"{cursors[0]}&topic={name}x", "%", "a+b"):
        assert curl(base, "-H", f"Last-Event-ID: {wrong}").status == 400, wrong


def test_gaps(_):
    """What is gone from the history is told over every transport, and then comes what is left."""
    with Engine("--shards", "2", "--history-messages", "3") as engine:
        for several in (False, True):
            for transport in (*STREAMS, *LISTS):
                name, other = topic("gap"), topic("gap")
                cursors = [engine.publish(name, str(n)) for n in range(9)]
                head = engine.publish(other, "other")
                expected = {"topic": name, "from": cursors[0], "to": cursors[5], "count": 5, "reason": "expired"}
                names = (name, other) if several else (name,)
                since = f"{cursors[0]},{head}" if several else cursors[0]
                url = engine.url + query(transport, *names, since=since, wait="5")
                if transport in STREAMS:
                    with Stream(url) as stream:
                        got = stream.items(transport, 4)
                else:
                    got = objects(transport, curl(url))
                assert got[0] == {"gap": expected}, (transport, several, got)
                assert [item["data"] for item in got[1:]] == ["6", "7", "8"], (transport, several, got)
        name = topic("epoch")
        cursor = engine.publish(name, "x")
        with Stream(f"{engine.url}/topics/{name}?transport=sse", "-H", "Last-Event-ID: 00000001-7") as stream:
            gap, message = stream.items("sse", 2)
            assert gap["gap"]["reason"] == "epoch" and message["cursor"] == cursor
            # The gap has an id of its own: a client that loses the connection now does not hear of it again.
            assert events(stream.text)[1]["id"] == gap["gap"]["to"]


def test_conflate_and_every(engine):
    """`every` holds for streams: few of many messages come, the newest among them, and what is skipped is told."""
    name = topic("every")
    with Stream(f"{engine.url}/topics/{name}?transport=stream&every=300&since=live") as stream:
        eventually(lambda: engine.stats()["total"]["subscriptions"] >= 1, "the subscription")
        for n in range(10):
            engine.publish(name, str(n))
        got = eventually(
            lambda: (i := items("stream", stream.text)) and i[-1].get("data") == "9" and i, "the newest message"
        )
        gaps = [item["gap"] for item in got if "gap" in item]
        assert gaps and all(gap["reason"] == "conflated" for gap in gaps), got
        assert sum(gap["count"] for gap in gaps) + sum("data" in item for item in got) == 10, got


def test_cors(_):
    """An allowed origin may read, with credentials, over every transport; another one is given nothing to read."""
    with Engine("--shards", "2", "--origins", "https://app.example") as engine:
        name = topic("cors")
        engine.publish(name, "x")
        url = f"{engine.url}/topics/{name}"
        good, evil = ["-H", "Origin: https://app.example"], ["-H", "Origin: https://evil.example"]
        for path in (*(f"?transport={t}" for t in LISTS), "?transport=value", "?transport=nonsense"):
            answer = curl(url + path, *good)
            assert answer.headers["access-control-allow-origin"] == "https://app.example", path
            assert answer.headers["access-control-allow-credentials"] == "true", path
            assert "Corecast-Cursor" in answer.headers["access-control-expose-headers"], path
            assert answer.headers["vary"] == "Origin", path
            answer = curl(url + path, *evil)
            assert "access-control-allow-origin" not in answer.headers and answer.headers["vary"] == "Origin", path
        for transport in STREAMS:
            with Stream(f"{url}?transport={transport}", *good) as stream:
                assert "Access-Control-Allow-Origin: https://app.example\r\n" in stream.head + "\r\n", stream.head
                assert "Vary: Origin" in stream.head
                stream.items(transport, 1)
            answer = curl(f"{url}?transport={transport}", *evil)
            assert answer.status == 403 and "access-control-allow-origin" not in answer.headers, transport
        ask = ["-X", "OPTIONS", "-H", "Access-Control-Request-Method: POST"]
        for path in (url, f"{engine.url}/topics"):
            answer = curl(path, *ask, *good, "-H", "Access-Control-Request-Headers: corecast-event")
            assert answer.status == 204 and answer.headers["access-control-max-age"] == "86400"
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
            assert answer.headers["access-control-allow-credentials"] == "true"
            assert "POST" in answer.headers["access-control-allow-methods"]
            allowed = [word.strip().lower() for word in answer.headers["access-control-allow-headers"].split(",")]
            for header in ("corecast-event", "content-type", "last-event-id", "if-none-match", "prefer"):
                assert header in allowed, header
            assert "access-control-allow-origin" not in curl(path, *ask, *evil).headers
        assert curl(url, *evil, "-d", "x").status == 403
        answer = curl(url, *good, "-d", "y")
        assert answer.status == 200 and answer.headers["access-control-allow-origin"] == "https://app.example"


def test_refusals(engine):
    """What makes no sense is a 400 with the reason, over every transport, and the connection goes on."""
    a, b = topic("a"), topic("b")
    cursor = engine.publish(a, "x")
    for transport in (*STREAMS, "long-poll", "jsonp"):
        t = f"transport={transport}"
        for path, reason in [
            (f"/topics?{t}", "name a topic"),
            (f"/topics?topic={a}&topic={a}&{t}", "twice"),
            (f"/topics?topic=a/b&topic=a%2Fb&{t}", "twice"),
            (f"/topics/{a}?topic={a}&{t}", "twice"),
            ("/topics?" + "&".join(f"topic=t{n}" for n in range(65)) + f"&{t}", "64"),
            (f"/topics?topic=a//b&{t}", "empty segment"),
            (f"/topics?topic=%ff&{t}", "UTF-8"),
            (f"/topics?topic=%&{t}", "%"),
            (f"/topics?topic={a}&topic={b}&since={cursor}&{t}", "cursor for each topic"),
            (f"/topics?topic={a}&topic={b}&since={cursor},{cursor},{cursor}&{t}", "cursor for each topic"),
            (f"/topics?topic={a}&since={cursor},{cursor}&{t}", ""),
            (f"/topics/{a}?since=yesterday&{t}", "since"),
            (f"/topics/{a}?since={'1' * 5000}&{t}", ""),
            (f"/topics/{a}?every=soon&{t}", "every"),
            (f"/topics/{a}?every=-1&{t}", "every"),
            (f"/topics/{a}?wait=long&{t}", "wait"),
            (f"/topics/{a}?callback=alert(1)&{t}", "callback"),
            (f"/topics/{a}?callback=1a&{t}", "callback"),
            (f"/topics/{a}?callback=&{t}", "callback"),
            (f"/topics/{a}?callback={'a' * 65}&{t}", "callback"),
            (f"/topics/{a}?callback=%3Cscript%3E&{t}", "callback"),
        ]:
            answer = curl(engine.url + path)
            assert answer.status == 400, (path, answer.status)
            assert reason in answer.json()["error"], (path, answer.body)
            assert answer.headers.get("connection") != "close", path
    for path in ("/topics?transport=value", "/topics", f"/topics/{a}?transport=carrier-pigeon"):
        assert curl(engine.url + path).status == 400, path
    names = "&".join(f"topic={topic('many')}" for _ in range(64))
    assert curl(f"{engine.url}/topics?{names}").json() == [], "64 topics are allowed"


def test_topics_with_signs(engine):
    """A topic that holds what has a meaning in a query is that topic, in a path and in a query."""
    for plain, path, encoded in [
        ("x&callback=y", "x&callback=y", "x%26callback%3Dy"),
        ("a=b;c?d", "a=b;c%3Fd", "a%3Db;c%3Fd"),
        ("ü b%", "%C3%BC%20b%25", "%C3%BC+b%25"),
    ]:
        name = topic("signs")
        engine.publish(f"{name}/{encoded.replace('+', '%20')}", "found")
        for transport in STREAMS:
            for url in (f"/topics/{name}/{path}?transport={transport}", query(transport, f"{name}/{encoded}")):
                with Stream(engine.url + url) as stream:
                    item = stream.items(transport, 1)[0]
                    assert item["data"] == "found" and item["topic"] in (None, f"{name}/{plain}"), url


def test_a_vanished_long_poller(_):
    """A long-poller that goes away frees its connection and its subscription at once."""
    with Engine("--shards", "1") as engine:
        name = topic("vanished")
        counted = lambda: {key: engine.stats()["total"][key] for key in ("connections", "subscriptions")}
        streams = [Stream(f"{engine.url}/topics/{name}?transport=long-poll&wait=60") for _ in range(5)]
        eventually(lambda: counted() == {"connections": 5, "subscriptions": 5}, "five wait")
        for stream in streams:
            stream.__exit__()
        eventually(lambda: counted() == {"connections": 0, "subscriptions": 0}, "they are gone", deadline=2)
        streams = [Stream(f"{engine.url}/topics/{name}?transport={transport}") for transport in STREAMS]
        eventually(lambda: counted()["subscriptions"] == 4, "four streams")
        for stream in streams:
            stream.__exit__()
        eventually(lambda: counted() == {"connections": 0, "subscriptions": 0}, "they are gone", deadline=2)


def test_sigterm_ends_streams(_):
    """SIGTERM tells every stream why it ends, ends them and long polls with a complete body, and the engine with status 0."""
    with Engine("--shards", "2") as engine:
        name = topic("drain")
        cursor = engine.publish(name, "x")
        streams = {t: Stream(f"{engine.url}/topics/{name}?transport={t}") for t in STREAMS}
        for transport, stream in streams.items():
            stream.items(transport, 1)
        poll = Stream(f"{engine.url}/topics/{name}?transport=long-poll&since={cursor}")
        eventually(lambda: engine.stats()["total"]["subscriptions"] == 5, "all wait")
        assert engine.stop() == 0, engine.errors
        for transport, stream in streams.items():
            assert stream.end() == 0, transport
            [told] = [item["refused"] for item in items(transport, stream.text)[1:]]
            text, after = told["text"].split("; try again in ")
            assert (told["name"], text) == ("draining", "the engine is shutting down"), (transport, stream.text)
            assert 1 <= int(after.removesuffix("s")) <= 10, told
        assert streams["multipart"].text.endswith("--\r\n")
        assert poll.end() == 0 and " 204 " in poll.head and f"Corecast-Cursor: {cursor}" in poll.head


def test_a_stream_ends_by_age(_):
    """A stream ends in order when it is old enough, and its client goes on behind its cursor."""
    with Engine("--shards", "1", "--stream-seconds", "1") as engine:
        for transport in STREAMS:
            name = topic("age")
            for n in range(2):
                engine.publish(name, str(n))
            with Stream(f"{engine.url}/topics/{name}?transport={transport}&since=earliest") as stream:
                assert stream.end() == 0, transport
                got = items(transport, stream.text)
            assert [item["data"] for item in got] == ["0", "1"], transport
            engine.publish(name, "2")
            with Stream(f"{engine.url}/topics/{name}?transport={transport}&since={got[-1]['cursor']}") as stream:
                assert [item["data"] for item in stream.items(transport, 1)] == ["2"], transport
    with Engine("--shards", "1", "--stream-seconds", "1500ms") as engine:
        start = time.monotonic()
        with Stream(f"{engine.url}/topics/{topic()}?transport=stream", "--http1.0") as stream:
            assert stream.end() == 0 and 1.3 < time.monotonic() - start < 5


def test_httpx_streams(engine):
    """httpx reads a stream line by line while it comes, over several topics."""
    a, b = topic("a"), topic("b")
    with httpx.Client(base_url=engine.url, timeout=DEADLINE, trust_env=False) as client:
        parameters = [("topic", a), ("topic", b), ("transport", "stream")]
        with client.stream("GET", "/topics", params=parameters) as answer:
            assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
            lines = (json.loads(line) for line in answer.iter_lines() if line)
            for n in range(20):
                name = (a, b)[n % 2]
                cursor = engine.publish(name, f"ü{n}")
                assert next(lines) == {"topic": name, "cursor": cursor, "data": f"ü{n}"}
        with client.stream("GET", f"/topics/{a}", headers={"Accept": "text/event-stream"}) as answer:
            data = next(line for line in answer.iter_lines() if line.startswith("data: "))
            assert data == "data: ü18"


def test_many_streams_share(engine):
    """Two hundred streams of every kind get the same run of messages, complete and in order."""
    name, count = topic("share"), 50
    streams = [(t, Stream(f"{engine.url}/topics/{name}?transport={t}&since=live")) for t in STREAMS for _ in range(50)]
    eventually(lambda: engine.stats()["total"]["subscriptions"] == len(streams), "all are subscribed", deadline=30)
    for n in range(count):
        engine.publish(name, str(n))
    for transport, stream in streams:
        got = stream.items(transport, count)
        assert [item["data"] for item in got] == [str(n) for n in range(count)], transport
        assert [sequence(item["cursor"]) for item in got] == list(range(1, count + 1)), transport
        stream.__exit__()
