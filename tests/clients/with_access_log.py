"""The access log: who was served what, in lines whose fields stay; and who was refused what, by name."""

import contextlib
import json
import pathlib
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

from engine import DEADLINE, Engine, curl, eventually, topic
from with_processes import unread


def access(engine, what=None):
    """Returns the lines of the access log so far."""
    lines = [json.loads(line) for line in list(engine.errors) if line.startswith("{")]
    return [line for line in lines if line.get("target") == "access" and what in (None, line["message"])]


def one(engine, what, **fields):
    """Waits for a line with these fields."""
    fits = lambda line: all(line.get(name) == value for name, value in fields.items())
    return eventually(lambda: [line for line in access(engine, what) if fits(line)], f"{what} {fields}")[0]


@contextlib.contextmanager
def secret_file():
    """A file with a secret."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("0123456789abcdef" * 4)
        file.flush()
        yield file.name


def token(secret, subject):
    """Makes a token that lets its subject do everything."""
    flags = ["--key", secret, "--sub", subject, "--publish", "#", "--subscribe", "#"]
    done = subprocess.run([Engine.binary, "token", *flags], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_each_has_its_line(_):
    """Requests, WebSockets and streams have their lines, with what is known of them; no token is in any."""
    name = topic("access")
    flags = ["--access-log", "all", "--log-format", "json", "--log-level", "error"]
    with secret_file() as secret, Engine("--shards", "2", *flags, "--token-key", f"secret:{secret}") as engine:
        ann = token(secret, "ann")
        url = f"{engine.url}/topics/{name}"
        assert curl(f"{url}?token={ann}", "-d", "hello").status == 200
        line = one(engine, "request", method="POST")
        assert line["peer"].startswith("127.0.0.1:") and line["level"] == "INFO", line
        said = {key: line[key] for key in line if key not in ("peer", "ms", "timestamp", "level", "target", "message")}
        body = line["bytes"]
        assert said == {"user": "ann", "method": "POST", "path": f"/topics/{name}", "status": 200, "bytes": body, "transport": "http"}
        assert body > 30 and 0 <= line["ms"] < 10_000, line
        answer = curl(f"{url}?since=earliest", "-H", f"Authorization: Bearer {ann}")
        assert one(engine, "request", method="GET", status=200)["bytes"] == len(answer.body)
        assert curl(url, "--head", "-H", f"Authorization: Bearer {ann}").status == 200
        assert one(engine, "request", method="HEAD")["bytes"] == 0
        assert curl(f"{engine.url}/nowhere?token={ann}").status == 404
        one(engine, "request", path="/nowhere", status=404)
        assert curl(url, "-d", "x").status == 401
        assert "user" not in one(engine, "request", method="POST", status=401)
        with engine.raw() as bad:
            bad.sendall(b"nonsense\r\n\r\n")
            assert bad.recv(100).startswith(b"HTTP/1.1 400 ")
        assert "path" not in one(engine, "request", status=400)
        with engine.ws(f"/ws?token={ann}", subprotocols=["corecast.v1"]) as ws:
            assert ws.recv(timeout=DEADLINE).startswith("HI ")
            ws.send(f"SUB {name} since=live id=s")
            assert ws.recv(timeout=DEADLINE).startswith("OK s")
            peer = one(engine, "begin", status=101)["peer"]
            assert curl(f"{url}?token={ann}", "-d", "x" * 1000).status == 200
            ws.recv(timeout=DEADLINE)
        line = one(engine, "end", peer=peer)
        assert (line["status"], line["user"], line["transport"]) == (1000, "ann", "line"), line
        assert "bytes" not in line and line["ms"] >= 0, line
        with engine.raw() as gone:
            gone.sendall(f"GET /topics/{name}?transport=sse&token={ann} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            begin = one(engine, "begin", transport="sse")
            assert begin["path"] == f"/topics/{name}" and begin["status"] == 200, begin
            # A reset: who only ends its direction may still read, and gets an end in order.
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one(engine, "end", transport="sse", status=499, peer=begin["peer"])
        with urllib.request.urlopen(f"{url}?transport=stream&token={ann}", timeout=DEADLINE):
            one(engine, "begin", transport="ndjson")
            with engine.raw() as cut:
                cut.sendall(
                    f"GET /ws?token={ann} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
                )
                assert b"101" in cut.recv(100)
            one(engine, "end", transport="line", status=1006)
            assert engine.stop() == 0
        one(engine, "end", transport="ndjson", status=200)
        assert not any(ann in line or "token=" in line for line in engine.errors), engine.errors


def test_an_unread_access_log_stops_nobody(_):
    """With all of it asked for, and a stderr that nobody reads, everybody is served, and what is dropped is counted."""
    name = topic("unread")
    with unread() as stderr, Engine("--shards", "2", "--access-log", "all", stderr=stderr) as engine:
        with engine.line() as ws, engine.raw() as flood:
            ws.send(f"SUB {name} since=live id=s")
            assert ws.recv(timeout=DEADLINE).startswith("OK s")
            asks = b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n" * 100
            for _ in range(40):
                flood.sendall(asks)
                got = b""
                while got.count(b"HTTP/1.1 404 ") < 100:
                    got += flood.recv(1 << 16)
            engine.publish(name, "after all that")
            assert ws.recv(timeout=DEADLINE).endswith("after all that")
        dropped = lambda: engine.stats()["process"]["log_lines_dropped"] > 2_000
        eventually(dropped, "lines are dropped, and counted")
        assert engine.stop() == 0


def test_samples_stand_for_all(_):
    """Sampled, a flood has some lines, which say how many they stand for; switched by a reload, and off again."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "corecast.toml")
        file.write_text("")
        with Engine("--shards", "1", "--log-format", "json", "--config", str(file)) as engine:
            reload = lambda: curl(f"http://127.0.0.1:{engine.admin_port}/reload", "-X", "POST").json()
            engine.publish("t", "nobody writes this down")
            file.write_text('access-log = "sampled"\n')
            assert reload() == {"changed": ["access-log"]}
            begun = time.monotonic()
            with engine.raw() as flood:
                for _ in range(50):
                    flood.sendall(b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
                    got = b""
                    while got.count(b"HTTP/1.1 404 ") < 100:
                        got += flood.recv(1 << 16)
            seconds = time.monotonic() - begun + 2
            file.write_text('access-log = "off"\n')
            assert reload() == {"changed": ["access-log"]}
            engine.publish("t", "nor this")
            assert engine.stop() == 0
            lines = access(engine, "request")
            assert 100 <= len(lines) <= 100 * seconds, len(lines)
            stand_for = sum(line.get("stands_for", 1) for line in lines)
            assert len(lines) < stand_for <= 5_000 or len(lines) == 100, (len(lines), stand_for)
            assert all(line["path"] == "/nowhere" for line in lines), lines[:3]


def test_refusals_are_told_by_name(_):
    """Who is refused is in the log, by name, with what it was about; a flood of one name has ten lines and a count, and leaves others theirs."""
    with Engine("--shards", "1", "--log-format", "json", "--max-message", "100", "--max-subscriptions", "1") as engine:
        name = topic("refused")
        for _ in range(50):
            assert curl(f"{engine.url}/topics/{name}", "-d", "x" * 101).status == 413
        with engine.line() as ws:
            ws.send("SUB a id=1")
            assert ws.recv(timeout=DEADLINE).startswith("OK 1")
            ws.send("SUB b/c id=2")
            assert ws.recv(timeout=DEADLINE).startswith("ERR 2 too-many")
            line = json.loads(engine.logs(['"message":"refused"', '"too-many"']))
        assert (line["topic"], line["kind"], line["level"]) == ("b/c", "line", "INFO"), line
        assert line["peer"].startswith("127.0.0.1:") and line["text"] == "too many subscriptions or connections", line
        told = [json.loads(line) for line in list(engine.errors) if '"too-large"' in line]
        assert len(told) == 10 and all(line["topic"] == name for line in told), told
        # The window is ten seconds.
        count = lambda: [line for line in list(engine.errors) if "not told one by one" in line]
        assert json.loads(eventually(count, "the others are counted", 2 * DEADLINE)[0])["left_out"] == 40
        assert engine.total("refused_too_large") == 50
