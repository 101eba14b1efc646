"""Requests that make no sense, over raw sockets: each is told why, harms nobody, and leaves nothing behind."""

import json
import re

from engine import DEADLINE, Engine, eventually, topic

TRANSPORTS = ["poll", "long-poll", "jsonp", "value", "sse", "stream", "multipart", "forever-frame"]
PLANNED = [transport for transport in TRANSPORTS if transport not in ("poll", "value")]
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Connection:
    """A connection that sends requests as bytes and reads their answers, with a length, in order."""

    def __init__(self, engine):
        self.connection = engine.raw()
        self.buffer = b""

    def send(self, target, headers=(), method="GET", body=b"", host="a"):
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def answer(self):
        """Reads one answer: status, headers by lower-case name, body; none at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                assert not self.buffer, self.buffer
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length and self.more():
            pass
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return int(lines[0].split(" ")[1]), headers, body

    def more(self):
        try:
            piece = self.connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        self.buffer += piece
        return bool(piece)


def refused(engine, what, status=400, reason="", stays=True, **request):
    """Sends a request and expects to be refused with this status and reason; the connection then goes on, or ends."""
    client = Connection(engine)
    try:
        client.send(**request)
        answer = client.answer()
        assert answer, f"{what}: no answer"
        got, headers, body = answer
        assert got == status, (what, got, body)
        if request.get("method") != "HEAD":
            assert headers["content-type"] == "application/json", (what, headers)
            assert reason.lower() in json.loads(body)["error"].lower(), (what, body)
        assert (headers.get("connection") != "close") == stays, (what, headers)
        if stays:
            client.send("/topics/test/goes-on")
            assert client.answer()[0] == 200, f"{what}: the connection goes on"
        else:
            assert client.answer() is None, f"{what}: the connection ends"
    finally:
        client.connection.close()


def test_bad_queries(engine):
    """Every option with a value that makes no sense is a 400 that names it, over every transport, and as a WebSocket."""
    name = topic("query")
    everywhere = [
        *((f"since={value}", "since") for value in [
            "yesterday", "0", "1-1", "00000001-", "00000001", "00000001-x", "00000001--1", "0000000g-1", "--1", "-x", "-%201",
            "00000001-18446744073709551616", "%00", "latest%00", "00000001-1%0d%0aX:y"]),
        ("since=%", "%"), ("since=%zz", "%"), ("since=" + "1" * 5000, ""),
        *((f"every={value}", "every") for value in ["soon", "-1", "+1", "1.5", "1e3", "0x10", "4294967296", "9" * 400, "", "%", "%00"]),
        *((f"conflate={value}", "conflate") for value in ["2", "yes", "TRUE", "%00", "%"]),
    ]
    only_http = [
        *((f"wait={value}", "wait") for value in ["long", "-1", "+1", "1.5", "1s", "", "%zz"]),
        *((f"enveloped={value}", "enveloped") for value in ["2", "yes", "%00"]),
    ]
    for query, reason in everywhere + only_http:
        for transport in TRANSPORTS:
            refused(engine, (transport, query), reason=reason, target=f"/topics/{name}?transport={transport}&{query}")
        if (query, reason) in everywhere:
            refused(engine, ("websocket", query), reason=reason, stays=False, target=f"/topics/{name}?{query}",
                    headers=UPGRADE.items())
    for value in ["carrier-pigeon", "", "SSE", "%", "sse%00", "websocket", "x" * 5000]:
        refused(engine, value, reason="transport", target=f"/topics/{name}?transport={value}")


def test_bad_plans(engine):
    """Topics, callbacks and Last-Event-IDs that make no sense are told before a stream or a long poll begins."""
    name = topic("plan")
    cursor = engine.publish(name, "x")
    for transport in PLANNED:
        t = f"transport={transport}"
        for target, reason in [
            (f"/topics?{t}", "name a topic"),
            (f"/topics?{t}&topic=", "topic"),
            (f"/topics?{t}&topic={name}&topic={name}", "twice"),
            (f"/topics?{t}&topic={name}&topic={name.replace('t', '%74')}", "twice"),
            (f"/topics?{t}&" + "&".join(f"topic=t{n}" for n in range(65)), "64"),
            (f"/topics?{t}&" + "&".join(f"topic={n}" for n in range(1300)), "64"),
            (f"/topics?{t}&topic=a//b", "empty segment"),
            (f"/topics?{t}&topic=a%00b", "control"),
            (f"/topics?{t}&topic=a%2b", "+"),
            (f"/topics?{t}&topic=%ff", "UTF-8"),
            (f"/topics?{t}&topic=%", "%"),
            (f"/topics?{t}&topic=%4", "%"),
            (f"/topics?{t}&topic={'x' * 256}", ""),
            (f"/topics?{t}&topic=a&topic=b&since={cursor}", "cursor for each topic"),
            (f"/topics?{t}&topic=a&topic=b&since={cursor},", "since"),
            (f"/topics?{t}&topic=a&topic=b&since={cursor},{cursor},{cursor}", "cursor for each topic"),
            (f"/topics?{t}&topic=a&topic=b&since={','.join([cursor] * 64)}", "cursor for each topic"),
            *((f"/topics/{name}?{t}&callback={callback}", "callback") for callback in [
                "alert(1)", "1a", ".a", "", "a%20b", "%3Cscript%3E", "%00", "%", "a;b", "a-b", "%C3%A9", "a" * 65, "a" * 5000]),
            *((f"/topics/{name}?{t}&last_event_id={value}", "") for value in ["x", "%", f"{cursor},{cursor}", "%00", "1" * 3000]),
        ]:
            refused(engine, (transport, target[:100]), reason=reason, target=target)
        for value in ["x", f"{cursor}x", f"{cursor},{cursor}", "%", "a&b", "1" * 3000]:
            refused(engine, (transport, value[:100]), target=f"/topics/{name}?{t}", headers=[("Last-Event-ID", value)])
    for target in ["/topics?transport=value", f"/topics?transport=value&topic={name}"]:
        refused(engine, target, reason="value is for one topic", target=target)
    for method in ["GET", "POST", "DELETE"]:
        for path, reason in [("", "topic"), ("a//b", "empty segment"), ("%", "%"), ("%2", "%"), ("%zz", "%"), ("%00", "control"),
                             ("%ff", "UTF-8"), ("a%0d%0ab", "control"), ("x" * 256, ""), ("*", "*"),
                             # A pattern can be read; nothing can be published to it.
                             ("a/%23/b", "#") if method == "GET" else ("%23", "#")]:
            refused(engine, (method, path), reason=reason, method=method, target=f"/topics/{path}")


def test_bad_heads(engine):
    """What is wrong with a head is told, and ends the connection when nobody can know where the next one begins."""
    name = topic("head")
    for what, headers in [
        ("two hosts", [("Host", "b")]),
        ("two origins", [("Origin", "http://a"), ("Origin", "http://a")]),
        ("two keys", [*UPGRADE.items(), ("Sec-WebSocket-Key", UPGRADE["Sec-WebSocket-Key"])]),
        ("two versions", [*UPGRADE.items(), ("Sec-WebSocket-Version", "13")]),
        ("two lengths", [("Content-Length", "0"), ("Content-Length", "0")]),
        ("two Last-Event-IDs", [("Last-Event-ID", "latest"), ("Last-Event-ID", "live")]),
        ("two events", [("Corecast-Event", "a"), ("Corecast-Event", "b")]),
        ("two types", [("Content-Type", "text/plain"), ("Content-Type", "application/x-ndjson")]),
        ("NUL in a value", [("X", "a\0b")]),
        ("NUL in a name", [("X\0", "a")]),
        ("no ASCII in Last-Event-ID", [("Last-Event-ID", "\xe9")]),
        ("no ASCII in Origin", [("Origin", "http://\xe9")]),
        ("a space in a name", [("X Y", "a")]),
    ]:
        refused(engine, what, stays=False, target=f"/topics/{name}", headers=headers)
    for what, target in [("NUL", f"/topics/{name}\0"), ("a space", "/topics/a b"), ("no slash", "topics/a"), ("DEL", "/topics/a\x7f")]:
        refused(engine, what, stays=False, target=target)
    refused(engine, "huge query", 414, stays=False, target=f"/topics/{name}?{'x' * 20000}")
    refused(engine, "huge topic", 414, stays=False, target=f"/topics/{'x' * 20000}")
    refused(engine, "huge method", 501, stays=False, method="X" * 20000, target="/")
    refused(engine, "unknown method", 501, method="BREW", target=f"/topics/{name}")
    refused(engine, "many lines", 431, stays=False, target=f"/topics/{name}", headers=[("X", "y")] * 100)
    for what, status, headers in [
        ("no list of names", 403, [("Origin", "http://evil.example")]),
        ("null", 403, [("Origin", "null")]),
        ("no origin at all", 403, [("Origin", "nonsense")]),
    ]:
        for transport in ["sse", "stream", "multipart", "forever-frame"]:
            refused(engine, (what, transport), status, "origin", False, target=f"/topics/{name}?transport={transport}", headers=headers)
        refused(engine, (what, "POST"), status, "origin", method="POST", target=f"/topics/{name}", headers=headers, body=b"x")
        refused(engine, (what, "WebSocket"), status, "origin", False, target=f"/topics/{name}",
                headers=[*UPGRADE.items(), *headers])


def test_bad_upgrades(engine):
    """A WebSocket that cannot be is refused with the reason; the connection ends, as nobody knows what follows."""
    name = topic("upgrade")
    for what, status, target, changes in [
        ("no topic", 404, "/topics", {}),
        ("empty topic", 400, "/topics/", {}),
        ("bad topic", 400, "/topics/a//b", {}),
        ("bad escape", 400, "/topics/%zz", {}),
        ("no such path", 404, "/nowhere", {}),
        ("a body", 400, f"/topics/{name}", {"Content-Length": "1"}),
        ("a chunked body", 400, f"/topics/{name}", {"Transfer-Encoding": "chunked"}),
        ("no key", 400, f"/topics/{name}", {"Sec-WebSocket-Key": ""}),
        ("version 12", 426, f"/topics/{name}", {"Sec-WebSocket-Version": "12"}),
        ("two versions in one", 426, f"/topics/{name}", {"Sec-WebSocket-Version": "13, 8"}),
    ]:
        refused(engine, what, status, stays=False, target=target, headers={**UPGRADE, **changes}.items())
    refused(engine, "POST", stays=False, target=f"/topics/{name}", method="POST", headers=UPGRADE.items())


def test_bad_publications(engine):
    """Names of events, types and batches that make no sense are told, and nothing of them is published."""
    name = topic("publication")
    for event in ["two words", "x" * 65, "corecast-gap", "corecast-base64", "corecast-", "\xe9"]:
        # A head that is no text ends the connection.
        reads = event.isascii()
        refused(engine, event, stays=reads, reason="event" if reads else "ASCII", target=f"/topics/{name}", method="POST", body=b"x",
                headers=[("Corecast-Event", event)])
    ndjson = [("Content-Type", "application/x-ndjson")]
    good = json.dumps({"topic": name, "data": "x"})
    for line, reason in [
        ("{", "line 2"), ("[]", "line 2"), ("null", "line 2"), ("{}", "topic"), ('{"topic":"a"}', "data"),
        ('{"topic":1,"data":"x"}', "string"), ('{"topic":"a","data":"x","data":"y"}', "twice"), ('{"topic":"","data":"x"}', "topic"),
        ('{"topic":"a//b","data":"x"}', "empty segment"), ('{"topic":"a","data":"x","event":"a b"}', "event name"),
        ('{"topic":"a","data":"x","event":"corecast-gap"}', "belong to the engine"),
        ('{"topic":"a","data":1234,"encoding":"base64"}', "base64"), ('{"topic":"a","data":{"x":}}', "value"),
        ('{"topic":"a","data":"!","encoding":"base64"}', "base64"), ('{"topic":"a","data":"x","encoding":"rot13"}', "encoding"),
        ('{"topic":"a","data":"\\ud800"}', ""), ('{"topic":"a","data":"\xff"}', ""), ('{"topic":"a","data":"\0"}', ""),
        ("[" * 5000, ""), ('{"topic":"a","data":"' + "x" * 70000 + '"}', "too large"),
    ]:
        body = f"{good}\n{line}\n".encode("latin-1")
        refused(engine, line[:60], reason=reason, target="/topics", method="POST", headers=ndjson, body=body)
    for kind in ["application/json", "text/plain", "", "nonsense"]:
        refused(engine, kind, 415, target="/topics", method="POST", headers=[("Content-Type", kind)], body=good.encode())
    client = Connection(engine)
    client.send(f"/topics/{name}?since=earliest")
    assert client.answer()[2] == b"[]"
    client.connection.close()
    with engine.line() as ws:
        for command, reason in [
            (f"PUB {name} event=corecast-gap id=1\nx", "belong to the engine"),
            (f"PUB {name} event= id=1\nx", "event name"),
            (f"SUB {name} conflate=2 id=1", "conflate"),
            (f"SUB {name} every=soon id=1", "every"),
        ]:
            ws.send(command)
            assert re.fullmatch(f"ERR 1 bad-command .*{reason}.*", ws.recv(timeout=DEADLINE)), command


def test_wishes_are_wishes(engine):
    """Prefer, If-None-Match, Accept, Range and queries that nobody knows may say anything, in any letters: they are passed over."""
    name = topic("wishes")
    engine.publish(name, "x")
    client = Connection(engine)
    for headers in [
        [("Prefer", "wait=soon")], [("Prefer", 'wait="')], [("Prefer", ",;=,,")], [("Prefer", "wait=-1"), ("Prefer", "wait=7")],
        [("If-None-Match", '"')], [("If-None-Match", 'W/"x", "00000000-9", ,')], [("If-None-Match", "\\")],
        [("If-None-Match", '"' + "x" * 9000 + '"')],
        [("Accept", "text/event-stream;q=0")], [("Accept", ";;,")], [("Accept", "\xe9")], [("Prefer", "\xe9")], [("If-None-Match", "\xe9")],
        [("Authorization", "\xe9")], [("Content-Type", "\xe9")], [("Connection", "\xe9")], [("Upgrade", "\xe9")], [("Accept", "text/html"), ("Accept", "*/*")],
        [("Range", "bytes=0-0")], [("Range", "nonsense")], [("If-Modified-Since", "yesterday")], [("Cookie", "a=\xff")],
    ]:
        for query in ["", "?transport=poll&unknown=%zz&&=&==&x", "?transport=long-poll&since=earliest"]:
            client.send(f"/topics/{name}{query}", headers)
            status, _, body = client.answer()
            assert status == 200 and b'"data":"x"' in body, (headers, query, status, body)
        client.send(f"/topics/{name}?transport=value", headers)
        assert client.answer()[::2] == (200, b"x"), headers
    client.connection.close()


def test_bad_requests_leave_nothing(_):
    """After all of this an engine holds no connection, no subscription and no memory, and works."""
    with Engine("--shards", "2", "--echo") as engine:
        for test in [test_bad_queries, test_bad_plans, test_bad_heads, test_bad_upgrades, test_bad_publications]:
            test(engine)

        def left():
            total = engine.stats()["total"]
            owned = ("connections", "subscriptions", "topics", "pool_private_bytes", "pool_inbound_bytes", "pool_log_bytes")
            return {name: total[name] for name in owned if total[name]}

        eventually(lambda: not left(), f"nothing is left: {left()}")
        name = topic("works")
        with engine.ws(f"/topics/{name}") as ws:
            ws.send("fine")
            assert ws.recv(timeout=DEADLINE) == "fine"
