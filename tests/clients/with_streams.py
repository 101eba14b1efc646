"""Subscribing over HTTP: SSE, NDJSON streams, multipart, forever frame, long poll, JSONP; one topic and several."""

import base64
import http.client
import json
import random
import re
import threading
import time
import urllib.parse

from engine import Engine, curl, eventually, topic

STREAMS = ["sse", "stream", "multipart", "forever-frame"]


class Stream:
    """A response that stays open, read with the library's own chunk decoder."""

    def __init__(self, engine, path, headers=None):
        where = urllib.parse.urlsplit(engine.url)
        self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        self.connection.request("GET", path, headers=headers or {})
        self.answer = self.connection.getresponse()
        self.data = b""

    def until(self, found, what="what was waited for"):
        """Reads until `found(data)` is true; returns what it says."""
        while True:
            result = found(self.data)
            if result:
                return result
            piece = self.answer.read1(1 << 16)
            assert piece, f"the stream ended before {what}: {self.data[-500:]!r}"
            self.data += piece

    def rest(self):
        """Reads to the end."""
        while piece := self.answer.read1(1 << 16):
            self.data += piece
        return self.data

    def close(self):
        self.connection.close()


def events(data):
    """Parses an event stream as the WHATWG text says; returns (id, event, data, topic) and the last id."""
    found, last, fields = [], "", {}
    for line in re.split("\r\n|\r|\n", data.decode()):
        if line == "":
            last = fields.get("id", [last])[-1]
            if "data" in fields:
                found.append((last, fields.get("event", ["message"])[-1], "\n".join(fields["data"]),
                              fields.get("topic", [""])[-1]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
    return found, last


def objects(transport, data):
    """Returns the JSON objects of a stream, or the parts of a multipart as such objects."""
    if transport == "stream":
        return [json.loads(line) for line in data.split(b"\n")[:-1] if line]
    if transport == "forever-frame":
        scripts = re.findall(rb"<script>c\((\{.*?\})\)</script>", data, re.S)
        return [json.loads(script) for script in scripts]
    if transport == "multipart":
        found, boundary = [], data.split(b"\r\n", 1)[0]
        if b"\r\n" not in data:
            return []
        for part in data.split(boundary)[1:]:
            head, _, rest = part.partition(b"\r\n\r\n")
            headers = dict(re.findall(r"([^:\r\n]+): ([^\r\n]*)", head.decode()))
            length = int(headers.get("Content-Length", -1))
            if length < 0 or len(rest) < length:
                continue
            if "Corecast-Gap" in headers or "Corecast-Refused" in headers:
                found.append(json.loads(rest[:length]))
                continue
            found.append({"topic": headers["Corecast-Topic"], "cursor": headers["Corecast-Cursor"],
                          "data": rest[:length].decode()})
        return found
    raise AssertionError(transport)


def messages(transport, data):
    """Returns (topic, data) of the messages of any stream of one topic."""
    if transport == "sse":
        return [found[2] for found in events(data)[0] if found[1] not in ("corecast-gap", "corecast-refused")]
    return [one["data"] for one in objects(transport, data) if "data" in one]


def test_streams_deliver_history_and_live(engine):
    """Every stream sends its head at once, then the history, then what comes, in order and once."""
    for transport in STREAMS:
        name = topic(f"stream-{transport}")
        for n in range(3):
            engine.publish(name, f"old {n}")
        stream = Stream(engine, f"/topics/{name}?transport={transport}&since=earliest")
        assert stream.answer.status == 200
        assert stream.answer.headers["cache-control"] == "no-cache, no-transform"
        assert stream.answer.headers["x-accel-buffering"] == "no"
        stream.until(lambda data: len(messages(transport, data)) == 3, "the history")
        for n in range(3):
            engine.publish(name, f"new {n}")
        found = stream.until(lambda data: len(messages(transport, data)) == 6 and messages(transport, data), "news")
        assert found == ["old 0", "old 1", "old 2", "new 0", "new 1", "new 2"], transport
        stream.close()


def test_accept_chooses_sse(engine):
    """A browser's EventSource asks with Accept only."""
    stream = Stream(engine, f"/topics/{topic('accept')}", {"Accept": "text/event-stream"})
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    stream.until(lambda data: b"retry: " in data, "the retry line")
    stream.close()


def test_sse_splits_lines_and_marks_binary(engine):
    """Payloads with line ends of every kind come out of an event stream as they should, binary ones as base64."""
    name = topic("sse-lines")
    stream = Stream(engine, f"/topics/{name}?transport=sse&since=live")
    stream.until(lambda data: b"retry: " in data)
    engine.publish(name, b"a\nb\r\nc\rd\n")
    engine.publish(name, b"")
    engine.publish(name, b"\xff\x00\xfe")
    found = stream.until(lambda data: len(events(data)[0]) == 3 and events(data)[0], "three events")
    assert found[0][2] == "a\nb\nc\nd\n"
    assert found[1][2] == ""
    assert found[2][1] == "corecast-base64" and base64.b64decode(found[2][2]) == b"\xff\x00\xfe"
    stream.close()


def test_second_sign_of_life(engine):
    """A quiet event stream shows a second sign of life soon after the first, for scanners that hold the first back."""
    stream = Stream(engine, f"/topics/{topic('life')}?transport=sse&since=live")
    begin = time.monotonic()
    stream.until(lambda data: data.endswith(b"\n:\n\n"), "the second comment")
    assert time.monotonic() - begin < 10
    stream.close()


def test_resume_by_last_event_id(engine):
    """A client that is cut again and again, and comes back with Last-Event-ID, misses nothing and gets nothing twice."""
    name = topic("resume")
    expected = [str(n) for n in range(40)]
    publisher = threading.Thread(target=lambda: [engine.publish(name, text) for text in expected])
    got, last = [], ""
    stream = Stream(engine, f"/topics/{name}?transport=sse&since=earliest")
    publisher.start()
    while len(got) < len(expected):
        count = random.randint(1, 7)
        enough = min(count, len(expected) - len(got))
        found = stream.until(lambda data: len(events(data)[0]) >= enough and events(data)[0], f"{enough} of {got}")
        found = found[:enough]
        got += [one[2] for one in found]
        last = found[-1][0]
        stream.close()
        stream = Stream(engine, f"/topics/{name}?transport=sse&since=earliest", {"Last-Event-ID": last})
    stream.close()
    publisher.join()
    assert got == expected


def test_change_of_transport_in_mid_stream(engine):
    """The cursor of one transport is good in every other: whatever the changes, each message comes once, in order."""
    name = topic("change")
    expected = [str(n) for n in range(60)]
    publisher = threading.Thread(target=lambda: [engine.publish(name, text) for text in expected])
    publisher.start()
    got, since = [], "earliest"
    while len(got) < len(expected):
        transport = random.choice(STREAMS + ["poll", "long-poll"])
        path = f"/topics/{name}?transport={transport}&since={since}"
        if transport in ("poll", "long-poll"):
            answer = curl(engine.url + path + "&wait=5")
            found = [(one["cursor"], one["data"]) for one in answer.json()] if answer.status == 200 else []
        else:
            stream = Stream(engine, path)
            pairs = lambda data: (
                [(one[0], one[2]) for one in events(data)[0]] if transport == "sse"
                else [(one["cursor"], one["data"]) for one in objects(transport, data)])
            enough = min(random.randint(1, 9), len(expected) - len(got))
            found = stream.until(lambda data: len(pairs(data)) >= enough and pairs(data), transport)[:enough]
            stream.close()
        got += [data for _, data in found]
        since = found[-1][0] if found else since
    publisher.join()
    assert got == expected


def test_several_topics_and_their_combined_cursor(engine):
    """One event stream of several topics: a client that comes back with the combined cursor misses nothing."""
    names = [topic(f"several-{n}") for n in range(3)]
    query = "&".join(f"topic={urllib.parse.quote(name)}" for name in names)
    expected = {name: [f"{n}" for n in range(20)] for name in names}
    publisher = threading.Thread(target=lambda: [engine.publish(name, f"{n}") for n in range(20) for name in names])
    got = {name: [] for name in names}
    stream = Stream(engine, f"/topics?{query}&transport=sse&since=earliest")
    publisher.start()
    last = ""
    while sum(map(len, got.values())) < 60:
        left = 60 - sum(map(len, got.values()))
        enough = min(random.randint(1, 9), left)
        # What came after the last id is thrown away: it comes again.
        def whole(data):
            head = data[:data.rfind(b"\nid: ")] if b"\nid: " in data else b""
            end = data.find(b"\n\n", len(head) + 1)
            return events(data[:end + 2]) if head and end > 0 and len(events(data[:end + 2])[0]) >= enough else None
        found, last = stream.until(whole, f"{enough} events")
        for _, _, text, name in found:
            got[name].append(text)
        stream.close()
        assert last.count(",") == 2, last
        stream = Stream(engine, f"/topics?{query}&transport=sse&since=earliest", {"Last-Event-ID": last})
    stream.close()
    publisher.join()
    assert got == expected


def test_gap_is_told_on_every_transport(engine):
    """Who comes back with a cursor that the history has forgotten is told how many messages are gone, in every way."""
    with Engine("--history-messages", "3") as small:
        name = topic("gap")
        first = small.publish(name, "0")
        for n in range(1, 10):
            last = small.publish(name, str(n))
        epoch, seq = first.split("-")
        lost = {"topic": name, "from": first, "to": f"{epoch}-{int(seq) + 6}", "count": 6, "reason": "expired"}
        for transport in STREAMS:
            stream = Stream(small, f"/topics/{name}?transport={transport}&since={first}")
            if transport == "sse":
                found = stream.until(lambda data: len(events(data)[0]) == 4 and events(data)[0], "a gap and three")
                assert found[0][1] == "corecast-gap" and json.loads(found[0][2]) == lost, found[0]
                assert [one[2] for one in found[1:]] == ["7", "8", "9"]
            else:
                found = stream.until(
                    lambda data: len(objects(transport, data)) == 4 and objects(transport, data), "a gap and three")
                assert found[0].get("gap", found[0]) == lost, (transport, found[0])
                assert [one["data"] for one in found[1:]] == ["7", "8", "9"], transport
            stream.close()
        for transport in ("poll", "long-poll"):
            answer = curl(f"{small.url}/topics/{name}?transport={transport}&since={first}")
            assert answer.json()[0] == {"gap": lost}, transport
            assert [one["data"] for one in answer.json()[1:]] == ["7", "8", "9"], transport
            assert answer.headers["corecast-cursor"] == last


def test_long_poll_waits_and_gives_up(engine):
    """A long poll answers as soon as there is a message, and with 204 and its cursor when its time is over."""
    name = topic("long")
    cursor = engine.publish(name, "before")
    path = f"{engine.url}/topics/{name}?transport=long-poll&since={cursor}"
    answer = curl(path + "&wait=1")
    assert answer.status == 204 and answer.headers["corecast-cursor"] == cursor
    answer = curl(path, "-H", "Prefer: wait=1")
    assert answer.status == 204
    timer = threading.Timer(0.3, lambda: engine.publish(name, "after"))
    timer.start()
    begin = time.monotonic()
    answer = curl(path + "&wait=20")
    assert [one["data"] for one in answer.json()] == ["after"]
    assert time.monotonic() - begin < 10
    assert curl(path + "&wait=20").json() == answer.json(), "what is there is answered at once"


def test_a_vanished_long_poller_frees_its_slot(engine):
    """A client that goes away while it waits is gone from the engine at once, not when its time is over."""
    with Engine() as own:
        waiting = own.raw()
        waiting.sendall(f"GET /topics/{topic('vanish')}?transport=long-poll&wait=100 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        total = lambda: own.stats()["total"]
        eventually(lambda: total()["subscriptions"] == 1, "the poll waits")
        waiting.close()
        eventually(lambda: total()["subscriptions"] == 0 and total()["connections"] == 0, "the slot is free")


def test_poll_of_several_topics(engine):
    """One poll reads several topics, and its cursor list goes on with all of them."""
    a, b = topic("poll-a"), topic("poll-b")
    engine.publish(a, "1")
    path = f"{engine.url}/topics?topic={a}&topic={b}"
    answer = curl(path + "&since=earliest")
    assert [(one["topic"], one["data"]) for one in answer.json()] == [(a, "1")]
    engine.publish(b, "2")
    engine.publish(a, "3")
    answer = curl(f"{path}&since={answer.headers['corecast-cursor']}")
    assert sorted(one["data"] for one in answer.json() if "data" in one) == ["2", "3"], answer.body


def test_jsonp_is_safe(engine):
    """A JSONP answer is a script that calls the callback, and nothing in a payload can end the script."""
    name = topic("jsonp")
    engine.publish(name, "</script><script>alert(1)</script><!-- \u2028 \u2029 &")
    answer = curl(f"{engine.url}/topics/{name}?transport=jsonp&callback=a.b_$1")
    assert answer.headers["content-type"].startswith("application/javascript")
    assert answer.body.startswith(b"/**/a.b_$1([") and answer.body.endswith(b"]);")
    assert curl(f"{engine.url}/topics/{name}?transport=jsonp").body.startswith(b"/**/callback(["), "the usual name"
    inner = answer.body[len(b"/**/a.b_$1("):-2]
    for bad in [b"<", b">", b"&", "\u2028".encode(), "\u2029".encode()]:
        assert bad not in inner, bad
    assert json.loads(inner)[0]["data"].startswith("</script>")
    for callback in ["", "alert(1)", "1a", ".a", "a+b", "a%3Cb", "a" * 65, "%00", "a%0a"]:
        assert curl(f"{engine.url}/topics/{name}?transport=jsonp&callback={callback}").status == 400, callback
        assert curl(f"{engine.url}/topics/{name}?transport=forever-frame&callback={callback}").status == 400, callback


def test_bad_plans_are_refused(engine):
    """What makes no sense is answered 400 with a reason before anything is subscribed."""
    name = topic("bad")
    many = "&".join(f"topic=t{n}" for n in range(65))
    for path in [
        f"/topics/{name}?transport=carrier-pigeon",
        f"/topics/{name}?transport=websocket",
        f"/topics/{name}?transport=sse&since=yesterday",
        f"/topics/{name}?transport=sse&every=soon",
        f"/topics/{name}?transport=long-poll&wait=-1",
        "/topics?transport=sse",
        "/topics?transport=value&topic=a",
        f"/topics?transport=sse&{many}",
        "/topics?transport=sse&topic=a&topic=a",
        "/topics?transport=sse&topic=a&topic=b&since=0000000a-1",
        "/topics?transport=sse&topic=a&topic=b&since=0000000a-1,0000000a-2,0000000a-3",
        "/topics?transport=sse&topic=a//b",
        "/topics?transport=sse&topic=%ff",
    ]:
        answer = curl(engine.url + path)
        assert answer.status == 400 and answer.json()["error"], (path, answer.status)


def test_head_and_http10(engine):
    """HEAD tells the type of a stream without opening one; an HTTP/1.0 peer gets it without chunks."""
    name = topic("old")
    engine.publish(name, "x")
    answer = curl(f"{engine.url}/topics/{name}?transport=sse", "-I")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream")
    connection = engine.raw()
    connection.sendall(f"GET /topics/{name}?transport=stream&since=earliest HTTP/1.0\r\n\r\n".encode())
    data = b""
    while b"}\n" not in data:
        data += connection.recv(4096)
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower() and b"connection: close" in head.lower(), head
    assert [json.loads(line)["data"] for line in body.split(b"\n") if line] == ["x"]
    connection.close()


def test_cross_origin(engine):
    """A page of an allowed origin may read and publish, with credentials; any other gets nothing it can read."""
    with Engine("--origins", "https://app.example") as own:
        name = topic("cors")
        good = ["-H", "Origin: https://app.example"]
        answer = curl(f"{own.url}/topics/{name}", "-d", "x", *good)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
        preflight = curl(f"{own.url}/topics/{name}", "-X", "OPTIONS", *good, "-H", "Access-Control-Request-Method: POST")
        assert preflight.status == 204 and preflight.headers["access-control-max-age"] == "86400"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        evil = ["-H", "Origin: https://evil.example"]
        answer = curl(f"{own.url}/topics/{name}", *evil)
        assert "access-control-allow-origin" not in answer.headers and answer.headers["vary"] == "Origin"
        assert curl(f"{own.url}/topics/{name}?transport=sse", *evil).status == 403
        assert curl(f"{own.url}/topics/{name}", "-d", "x", *evil).status == 403


def test_streams_end_in_order_on_shutdown(engine):
    """A stream ends with its last chunk when the engine stops: the client knows that it has everything so far."""
    own = Engine()
    name = topic("end")
    streams = [(transport, Stream(own, f"/topics/{name}?transport={transport}&since=earliest")) for transport in STREAMS]
    own.publish(name, "last words")
    for transport, stream in streams:
        stream.until(lambda data: messages(transport, data) == ["last words"], transport)
    own.stop()
    for transport, stream in streams:
        stream.rest()
        assert messages(transport, stream.data) == ["last words"], transport
        assert b"draining" in stream.data, transport


def test_the_client_is_served(engine):
    """The JavaScript client is there for pages, as a script that browsers accept as a module; and so is the demo page."""
    answer = curl(f"{engine.url}/corecast.js")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/javascript")
    assert b"export" in answer.body
    minified = curl(f"{engine.url}/corecast.min.js")
    assert minified.status == 200 and b"export" in minified.body and len(minified.body) < len(answer.body) / 2
    page = curl(engine.url + "/", "-H", "Accept: text/html,*/*")
    assert page.headers["content-type"].startswith("text/html") and b"/corecast.js" in page.body
    assert curl(engine.url + "/").headers["content-type"].startswith("text/plain")
