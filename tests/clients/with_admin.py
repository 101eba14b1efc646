"""The admin listener and the words of the command line that ask it: every page with good and bad input, tokens, disconnects, drains, `top`."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios

import websockets.exceptions
import websockets.sync.client
from engine import DEADLINE, Engine, curl, eventually, topic

TOKEN = "operators-only-0123456789"
OTHER = "another-operator-98765432"
SAID = "an operator has ended this connection"
READS = ["/healthz", "/readyz", "/stats", "/connections", "/connection?shard=0&slot=0", "/topics", "/topic?topic=a", "/slow", "/revoked"]
POSTS = ["/reload", "/revoke", "/disconnect", "/drain"]
OPEN = ["/healthz", "/readyz"]


def ask(engine, path, *arguments, **options):
    """Asks the admin listener with curl."""
    return curl(f"http://127.0.0.1:{engine.admin_port}{path}", *arguments, **options)


def post(engine, path, body, *arguments):
    """Posts JSON to the admin listener."""
    return ask(engine, path, "--json", "@-", *arguments, data=body if isinstance(body, str) else json.dumps(body))


def corecast(engine, *arguments, admin=True, status=0, env=None):
    """Runs a word against the admin listener of an engine, and returns stdout; with another status stderr."""
    where = ["--admin", f"http://127.0.0.1:{engine.admin_port}"] if admin else []
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("CORECAST_")}, **(env or {})}
    done = subprocess.run([Engine.binary, *arguments, *where], capture_output=True, text=True, timeout=DEADLINE + 5, env=env)
    assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
    if status:
        assert "error: " in done.stderr and done.stdout == "", (done.stdout, done.stderr)
        return done.stderr
    assert done.stderr == "", done.stderr
    return done.stdout


def rows(engine, path):
    answer = ask(engine, path)
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", (answer.status, answer.body)
    return answer.json()


def row_of(engine, ws, **more):
    """Returns the row of a WebSocket's connection."""
    host, port = ws.local_address[:2]
    found = lambda: [row for row in rows(engine, "/connections?limit=1000") if row["peer"] == f"{host}:{port}"]
    row = eventually(found, "it is listed")[0]
    assert more.items() <= row.items(), row
    return row


def closed(ws):
    """Waits until a WebSocket is closed, and returns code and reason."""
    with contextlib.suppress(websockets.exceptions.ConnectionClosed):
        while True:
            ws.recv(timeout=DEADLINE)
    return ws.close_code, ws.close_reason


@contextlib.contextmanager
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="corecast-admin-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def guarded(*flags):
    """An engine whose admin listener asks for tokens, and the file of these."""
    with folder() as path:
        file = path / "tokens"
        file.write_text(f"# operators\n{TOKEN}\n")
        file.chmod(0o600)
        with Engine("--shards", "2", "--admin-token", str(file), *flags) as engine:
            yield engine, file


def test_methods_hosts_and_origins(engine):
    """Every page takes its methods and no others, HEAD has no body, foreign names and the pages of others get nothing."""
    for path in READS:
        get, head = ask(engine, path), ask(engine, path, "--head")
        assert get.status in (200, 404) and head.status == get.status and head.body == b"", (path, get.status, head.status)
        for method in ("POST", "PUT", "DELETE"):
            answer = ask(engine, path, "-X", method)
            assert (answer.status, answer.headers.get("allow")) == (405, "GET, HEAD"), (path, method, answer.status)
        assert ask(engine, path, "-H", f"Host: evil.example:{engine.admin_port}").status == 421, path
    for path in POSTS:
        for arguments in ([], ["--head"], ["-X", "PUT"]):
            answer = ask(engine, path, *arguments)
            assert (answer.status, answer.headers.get("allow")) == (405, "POST"), (path, arguments, answer.status)
        for origin in ("https://evil.example", "null"):
            answer = post(engine, path, {"subject": "nobody"}, "-H", f"Origin: {origin}")
            assert answer.status == 403, (path, origin, answer.status)
        assert post(engine, path, "{}", "-H", f"Host: evil.example:{engine.admin_port}").status == 421, path
    answer = ask(engine, "/nothing")
    assert answer.status == 404 and b"/topics" in answer.body and b"/disconnect" in answer.body, answer.body


def test_bodies_are_judged(engine):
    """A body that is no JSON, no object, says too much or is too large is refused by name, and nothing happens."""
    ws = engine.line()
    for path in ("/revoke", "/disconnect", "/drain"):
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answer = ask(engine, path, "-d", '{"subject":"a"}', "-H", f"Content-Type: {kind}")
            assert answer.status == 415 and b"application/json" in answer.body, (path, answer.status)
        for body in ("{", "[]", "3", '{"unknown":1}', '{"seconds":"x"}', "\0\xff"):
            answer = post(engine, path, body)
            assert answer.status == 400, (path, body, answer.status, answer.body)
        answer = post(engine, path, '{"subject":"' + "a" * 5000 + '"}')
        assert answer.status == 413, (path, answer.status)
        chunked = ask(engine, path, "--json", "{}", "-H", "Transfer-Encoding: chunked")
        assert chunked.status == 411, (path, chunked.status)
    for body in ({"shard": 0}, {"shard": 0, "slot": 1}, {"shard": 0, "slot": 1, "generation": 70000}, {"peer": "localhost"}, {"subject": ""}):
        assert post(engine, "/disconnect", body).status == 400, body
    answer = post(engine, "/disconnect", {"shard": 99, "slot": 1, "generation": 1})
    assert answer.status == 404 and "0 to 1" in answer.json()["reason"], answer.body
    ws.ping().wait(DEADLINE)
    assert engine.process.poll() is None
    ws.close()


def test_questions_are_judged(engine):
    """What cannot be asked is refused with what can."""
    for path, words in {
        "/topics?limit=0": "1 to 1000",
        "/topics?limit=1001": "1 to 1000",
        "/topics?sort=size": "bytes, messages, rate, readers",
        "/topics?by=rate": "limit, sort",
        "/connections?kind=smoke": "long-poll",
        "/connections?peer=here": "address",
        "/slow?limit=x": "1 to 1000",
        "/topic": "/topic?topic=NAME",
        "/topic?topic=a//b": "empty",
        "/connection?shard=0": "/connection?shard=N&slot=N",
        "/connection?shard=x&slot=1": "/connection?shard=N&slot=N",
    }.items():
        answer = ask(engine, path)
        assert answer.status == 400 and words in answer.body.decode(), (path, answer.status, answer.body)
    assert ask(engine, "/connection?shard=0&slot=100000").status == 404
    assert ask(engine, "/connection?shard=7&slot=0").status == 404
    assert ask(engine, "/topic?topic=nobody/knows/it").status == 404


def test_topics_and_one_topic(_):
    """Topics are listed by what is asked for, and one is told with its home, its readers by shard, its rate and its rules."""
    with folder() as path:
        file = path / "corecast.toml"
        file.write_text('[[topics]]\nmatch = "counted/#"\noccupancy = true\nhistory-messages = 3\n')
        with Engine("--shards", "2", "--config", str(file)) as engine:
            for n in range(5):
                engine.publish("counted/a", "x" * 10)
            engine.publish("large", "x" * 5000)
            readers = [engine.ws("/topics/counted/a?since=live") for _ in range(6)]
            by = lambda sort: [row["topic"] for row in rows(engine, f"/topics?sort={sort}&limit=2")]
            assert by("bytes")[0] == "large" and by("messages")[0] == "counted/a"
            eventually(lambda: by("readers")[0] == "counted/a", "its readers are counted")
            one = eventually(lambda: (lambda t: t if t["readers"] == 6 else None)(ask(engine, "/topic?topic=counted%2Fa").json()), "all are there")
            assert (one["messages"], one["bytes"], one["head"], one["first"]) == (3, 30, 5, 3), one
            assert sum(row["readers"] for row in one["readers_by_shard"]) == 6 and len(one["readers_by_shard"]) == 2, one
            assert one["terms"]["history-messages"] == {"value": "3", "rule": "counted/#"}, one
            assert one["terms"]["lag"] == {"value": "replay"}, one
            assert re.fullmatch("[0-9a-f]{8}", one["epoch"])
            said = corecast(engine, "topic", "counted/a")
            assert "history-messages = 3             # match = \"counted/#\"" in said and "readers   6 (" in said, said
            for reader in readers:
                reader.close()

            def rate():
                engine.publish("counted/a", "x")
                return next((row["rate"] for row in rows(engine, "/topics?sort=rate") if row["topic"] == "counted/a" and row["rate"] > 2), None)

            assert eventually(rate, "its rate is known") < 1000
            said = corecast(engine, "topics", "--sort", "messages", "--limit", "1").splitlines()
            assert said[0].split() == ["SHARD", "MESSAGES", "BYTES", "RATE/s", "READERS", "TOPIC"] and said[1].endswith("  counted/a"), said
            assert len(said) == 2 and all(len(line) <= 80 for line in said)
            assert json.loads(corecast(engine, "topics", "--json", "--limit", "1"))[0]["topic"] == "large"
            assert json.loads(corecast(engine, "topic", "counted/a", "--json"))["head"] >= 5
            assert "corecast topics" in corecast(engine, "topic", "unknown", status=1)


def test_connections_and_one_connection(engine):
    """Connections are listed by kind and peer, and one is told with its listener and what it reads; the command line writes the same."""
    line, raw = engine.line(), engine.ws(f"/topics/{topic('raw')}")
    name = topic("read")
    line.send(f"SUB {name} id=s")
    assert line.recv(timeout=DEADLINE).startswith("OK s")
    row = row_of(engine, line, kind="line", subscriptions=1)
    row_of(engine, raw, kind="websocket", subscriptions=1)
    assert [one["peer"] for one in rows(engine, f"/connections?kind=line&peer={row['peer']}")] == [row["peer"]]
    assert rows(engine, f"/connections?kind=sse&peer={row['peer']}") == []
    assert {one["kind"] for one in rows(engine, "/connections?peer=127.0.0.1&kind=websocket")} == {"websocket"}
    one = ask(engine, f"/connection?shard={row['shard']}&slot={row['slot']}").json()
    assert (one["peer"], one["generation"], one["tls"]) == (row["peer"], row["generation"], False), one
    assert (one["listener"], one["subscribed"]) == (f"127.0.0.1:{engine.port}", [{"topic": name, "behind": 0}]), one
    place = f"{row['shard']}/{row['slot']}"
    said = corecast(engine, "connection", place)
    assert f"connection {place} (generation {row['generation']})\n" in said and f"  {name}\n" in said, said
    said = corecast(engine, "connections", "--kind", "line", "--peer", row["peer"]).splitlines()
    assert said[0].split()[:2] == ["CONN", "KIND"] and said[1].split()[:2] == [place, "line"] and len(said) == 2, said
    assert json.loads(corecast(engine, "connections", "--json", "--kind", "line", "--peer", row["peer"]))[0]["slot"] == row["slot"]
    assert json.loads(corecast(engine, "connection", place, "--json"))["peer"] == row["peer"]
    assert "kind is one of" in corecast(engine, "connections", "--kind", "smoke", status=1)
    assert corecast(engine, "slow", "--limit", "1")
    assert isinstance(json.loads(corecast(engine, "slow", "--json")), list)
    line.close()
    raw.close()


def test_disconnect_by_slot_and_peer(engine):
    """A connection that is disconnected is closed with 1008 and told why; others are not, nor is who has the slot after it."""
    innocent, meant = engine.line(), engine.line()
    row = row_of(engine, meant)
    where = {"shard": row["shard"], "slot": row["slot"], "generation": row["generation"]}
    assert post(engine, "/disconnect", {**where, "generation": (row["generation"] + 1) % 65536}).json() == {"ended": 0}
    assert post(engine, "/disconnect", where).json() == {"ended": 1}
    code, reason = closed(meant)
    assert code == 1008 and reason.startswith(SAID), (code, reason)
    # Whoever has the slot next is another.
    again = []

    def reused():
        again.append(engine.line())
        new = row_of(engine, again[-1])
        return (new["shard"], new["slot"]) == (row["shard"], row["slot"]) and new

    new = eventually(reused, "the slot is used again")
    assert new["generation"] != row["generation"]
    assert post(engine, "/disconnect", where).json() == {"ended": 0}
    again[-1].ping().wait(DEADLINE)
    peer = "%s:%d" % again[-1].local_address[:2]
    assert post(engine, "/disconnect", {"peer": peer}).json() == {"ended": 1}
    assert closed(again[-1])[0] == 1008
    assert post(engine, "/disconnect", {"peer": "203.0.113.9"}).json() == {"ended": 0}
    place = lambda ws: "{shard}/{slot}".format(**row_of(engine, ws))
    fresh = engine.line()
    assert corecast(engine, "disconnect", place(fresh)) == "ended 1 connection\n"
    assert closed(fresh)[0] == 1008
    fresh = engine.line()
    peer = "%s:%d" % fresh.local_address[:2]
    assert json.loads(corecast(engine, "disconnect", "--peer", peer, "--json")) == {"ended": 1}
    assert closed(fresh)[0] == 1008
    assert "nothing was ended" in corecast(engine, "disconnect", "--peer", "203.0.113.9")
    assert "there is no connection" in corecast(engine, "disconnect", "0/99999", status=1)
    innocent.ping().wait(DEADLINE)
    assert engine.total("refused_disconnected") >= 4
    for ws in (innocent, *again):
        ws.close()


def test_disconnect_by_subject(_):
    """All connections of a subject end, streams with the event that says why; those of another go on."""
    with folder() as path:
        secret = path / "secret"
        subprocess.run([Engine.binary, "token", "--new-key", secret], check=True, capture_output=True, timeout=15)

        def token(name):
            made = [Engine.binary, "token", "--key", secret, "--sub", name, "--publish", "#", "--subscribe", "#"]
            return subprocess.run(made, check=True, capture_output=True, text=True, timeout=15).stdout.strip()

        with Engine("--shards", "2", "--token-key", f"secret:{secret}") as engine:
            anna, berta = token("anna"), token("berta")
            meant = [engine.ws(f"/topics/a?token={anna}") for _ in range(4)]
            innocent = engine.ws(f"/topics/a?token={berta}")
            stream = engine.raw()
            stream.sendall(f"GET /topics/a?transport=sse&token={anna} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            row_of(engine, meant[0], subject="anna")
            row_of(engine, innocent, subject="berta")
            eventually(lambda: len(rows(engine, "/connections?kind=sse")) == 1, "the stream stands")
            assert corecast(engine, "disconnect", "--subject", "anna") == "ended 5 connections\n"
            for ws in meant:
                assert closed(ws)[0] == 1008
            said = b""
            while piece := stream.recv(65536):
                said += piece
            assert b"event: corecast-refused" in said and b'"name":"disconnected"' in said, said
            stream.close()
            innocent.ping().wait(DEADLINE)
            innocent.close()


def test_tokens_of_operators(_):
    """With `admin-token` every page but health and readiness needs one; a reload changes them; none is ever in the log."""
    with guarded("--log-level", "trace") as (engine, file):
        shown = lambda token: ["-H", f"Authorization: Bearer {token}"]
        for path in READS:
            expected = 200 if path in OPEN else 401
            for arguments in ([], shown(OTHER), ["-H", f"Authorization: Basic {TOKEN}"], shown("# operators")):
                answer = ask(engine, path, *arguments)
                assert answer.status == expected, (path, arguments, answer.status)
                assert (answer.headers.get("www-authenticate") == "Bearer") == (expected == 401), (path, answer.headers)
            assert ask(engine, path, *shown(TOKEN)).status in (200, 404), path
        for path in POSTS:
            assert post(engine, path, "{}").status == 401, path
            assert post(engine, path, "{}", *shown(OTHER)).status == 401, path
        assert post(engine, "/revoke", {"jti": "x"}, *shown(TOKEN)).status == 200
        # What the dashboard is made of asks for a token itself; what it reads, it shows it to.
        for path in ("/", "/dashboard.js", "/dashboard.css", "/corecast.js"):
            assert ask(engine, path).status == 200, path
        assert ask(engine, "/metrics").status == 401 and ask(engine, "/metrics", *shown(TOKEN)).status == 200
        connect = lambda token: websockets.sync.client.connect(
            f"ws://127.0.0.1:{engine.admin_port}/ws", subprotocols=["corecast.v1", f"bearer.{token}"], proxy=None, open_timeout=DEADLINE
        )
        with connect(TOKEN) as ws:
            assert ws.recv(timeout=DEADLINE).startswith("HI corecast.v1 ")
        try:
            connect(OTHER)
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code == 401
        else:
            raise AssertionError("it was let in")

        error = corecast(engine, "topics", status=1)
        assert "401" in error and "--admin-token FILE" in error and TOKEN not in error, error
        assert corecast(engine, "topics", "--admin-token", str(file))
        assert corecast(engine, "connections", env={"CORECAST_ADMIN_TOKEN": str(file)})

        file.write_text(f"{OTHER}\n")
        answer = post(engine, "/reload", "", *shown(TOKEN))
        assert answer.status == 200 and answer.json()["changed"] == ["admin-token"], answer.body
        assert ask(engine, "/stats", *shown(TOKEN)).status == 401
        assert ask(engine, "/stats", *shown(OTHER)).status == 200
        file.write_text("short\n")
        answer = post(engine, "/reload", "", *shown(OTHER))
        assert answer.status == 422 and b"shorter than 16" in answer.body and b'"short"' not in answer.body, answer.body
        assert ask(engine, "/stats", *shown(OTHER)).status == 200
        error = corecast(engine, "reload", "--admin-token", str(file), status=1)
        assert "401" in error and "short" not in error.replace("shorter", ""), error
        log = "".join(engine.errors)
        assert TOKEN not in log and OTHER not in log and log, "a token is in the log"


def test_listeners_beyond_this_host(_):
    """An admin listener that other hosts reach does not start without tokens; with them it does, and what is wrong with the file is told."""
    with folder() as path:
        file = path / "tokens"
        start = lambda *flags: subprocess.run(
            [Engine.binary, "serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", *flags], capture_output=True, text=True, timeout=DEADLINE
        )
        done = start()
        assert done.returncode == 2 and "asks nobody who he is" in done.stderr and "admin-token" in done.stderr, done.stderr
        for text in ("", "short\n", "two secret words\n"):
            file.write_text(text)
            done = start("--admin-token", str(file))
            assert done.returncode == 2 and "admin-token" in done.stderr and "secret words" not in done.stderr, done.stderr
        done = start("--admin-token", str(path / "nowhere"))
        assert done.returncode == 2 and "No such file" in done.stderr, done.stderr
        file.write_text(f"{TOKEN}\n")
        check = [Engine.binary, "check", "--admin", "0.0.0.0:0", "--admin-token", str(file)]
        assert subprocess.run(check, capture_output=True, timeout=DEADLINE).returncode == 0


def test_the_way_inside_is_the_engines_own(engine):
    """The socket by which the admin listener passes its pages' WebSockets on takes nobody else: not even root of this host, who can read its name."""
    names = re.findall(rf"@(corecast-{engine.process.pid}-[0-9a-f]+)", pathlib.Path("/proc/net/unix").read_text())
    assert names, "it listens inside"
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(DEADLINE)
            stranger.connect("\0" + names[0])
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stranger.sendall(b"GET /topics/$sys/stats?transport=poll HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert stranger.recv(1) == b"", "it is told nothing"
    eventually(lambda: rows(engine, "/connections") == [], "they are gone")


def test_words_find_the_listener(_):
    """Words ask where the configuration says, with its token, also over a Unix socket; whoever is not there is told of with a cure."""
    with folder() as path:
        tokens, file, admin = path / "tokens", path / "corecast.toml", path / "admin.sock"
        tokens.write_text(f"{TOKEN}\n")
        file.write_text(f'admin = ["unix:{admin}", "127.0.0.1:0"]\nadmin-token = "{tokens}"\n')
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            nobody = probe.getsockname()[1]
        command = [Engine.binary, "serve", "--config", str(file), "--listen", "127.0.0.1:0", "--shards", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout.readline()
                eventually(admin.exists, "it listens")
                own = ["--config", str(file)]
                none = lambda *words, **options: corecast(None, *words, admin=False, **options)
                eventually(lambda: subprocess.run([Engine.binary, "ready", *own], capture_output=True, timeout=DEADLINE).returncode == 0, "ready")
                assert json.loads(none("connections", "--json", *own)) == []
                assert none("topics", *own) == "no topic remembers anything\n"
                assert none("slow", env={"CORECAST_CONFIG": str(file)}) == "nobody is behind\n"
                assert none("topics", "--admin", f"unix:{admin}", "--admin-token", str(tokens))
                assert "401" in none("topics", "--admin", f"unix:{admin}", status=1)
                assert "nothing has changed" in none("reload", *own)
                assert "start the engine" in none("topics", "--admin", f"127.0.0.1:{nobody}", status=1)
                assert "a token a line" in none("topics", "--admin-token", str(path / "nowhere"), status=2)
                for usage in (["topics", "--admin", "https://a"], ["topic"], ["disconnect"], ["connection", "1"], ["disconnect", "0/1", "--peer", "::1"]):
                    none(*usage, status=2)
                assert "off" in none("topics", env={"CORECAST_ADMIN": "off"}, status=2)
                assert none("drain", *own) == "the engine drains, and ends then\n"
                assert process.wait(DEADLINE) == 0
            finally:
                if process.poll() is None:
                    process.kill()


def test_drain(_):
    """A drain ends the engine as SIGTERM does: WebSockets are closed with 1001, and its status is 0; a time beyond the bound is refused."""
    for body, arguments, drain_ms in ((None, [], 4000), ({"seconds": 3}, [], 3000), (None, ["--over", "1500ms"], 2000)):
        with Engine("--shards", "2", "--shutdown-timeout", "8s") as engine:
            ws = engine.line()
            answer = post(engine, "/drain", {"seconds": 8})
            assert answer.status == 400 and b"less than shutdown-timeout, which is 8 s" in answer.body, answer.body
            assert "shutdown-timeout" in corecast(engine, "drain", "--over", "1m", status=1)
            ws.ping().wait(DEADLINE)
            if arguments:
                assert corecast(engine, "drain", *arguments) == "the engine drains, and ends then\n"
            else:
                answer = ask(engine, "/drain", "-X", "POST") if body is None else post(engine, "/drain", body)
                assert (answer.status, answer.json()) == (202, {"draining": True})
            assert closed(ws)[0] == 1001
            assert engine.process.wait(DEADLINE) == 0, engine.errors
            engine.logs(["as an operator wants it", f"drain_ms={drain_ms}"])


def test_reload(_):
    """`corecast reload` says what has changed, and what is wrong, with the status for each."""
    with folder() as path:
        file = path / "corecast.toml"
        file.write_text("history-messages = 5\n")
        with Engine("--shards", "1", "--config", str(file)) as engine:
            assert corecast(engine, "reload") == "nothing has changed\n"
            file.write_text("history-messages = 6\n")
            assert corecast(engine, "reload") == "changed: history-messages\n"
            file.write_text("history-messages = 7\n")
            assert json.loads(corecast(engine, "reload", "--json")) == {"changed": ["history-messages"]}
            file.write_text("history-messages = -7\n")
            assert "history-messages" in corecast(engine, "reload", status=1)
            file.write_text('max-message = "1k"\n')
            assert "max-message" in corecast(engine, "reload", status=1)


class Terminal:
    """`corecast top` on a terminal of its own."""

    def __init__(self, engine, *arguments, size=(24, 80)):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        command = [Engine.binary, "top", "--admin", f"http://127.0.0.1:{engine.admin_port}", "--every", "200ms", *arguments]
        env = {**os.environ, "TERM": "xterm-256color"}
        # Its own session, so that the terminal is its controlling one.
        control = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=control, env=env
        )
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self.master)
        os.close(self.slave)

    def read(self, seconds=0.05):
        while select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 65536)
            seconds = 0
        return self.seen.decode(errors="replace")

    def sees(self, words, since=0):
        """Waits until words were drawn, behind a place in what was."""
        eventually(lambda: words in self.read()[since:], f"{words!r} in {self.seen[-3000:]!r}")
        return len(self.read())

    def press(self, keys):
        os.write(self.master, keys)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self.process.pid, signal.SIGWINCH)

    def ends(self, status=0):
        """Waits for the end, and holds the terminal to what it was before."""
        eventually(lambda: self.read() is not None and self.process.poll() is not None, "it ends")
        assert self.process.returncode == status, (self.process.returncode, self.seen[-500:])
        self.read()
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is as it was"
        for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?7l", b"\x1b[?7h")):
            assert self.seen.count(on) == 1 and self.seen.rfind(off) > self.seen.rfind(on), (on, self.seen[-500:])


def test_top_on_a_terminal(_):
    """`corecast top` draws figures that move, changes its page by key, follows the size, and leaves the terminal as it was."""
    with Engine("--shards", "2") as engine:
        reader = engine.ws("/topics/hot/topic")
        for end in (b"q", b"\x1b", b"\x03"):
            with Terminal(engine) as terminal:
                terminal.sees("SHARD")

                def moves():
                    engine.publish("hot/topic", "x")
                    return "hot/topic" in terminal.read()

                eventually(moves, "the hottest topic is shown")
                place = terminal.sees("[1 shards]")
                terminal.press(b"2")
                place = terminal.sees("[2 topics]", place)
                terminal.press(b"\t")
                place = terminal.sees("[3 connections]", place)
                place = terminal.sees("PEER", place)
                terminal.press(b"\t")
                place = terminal.sees("[1 shards]", place)
                terminal.resize(10, 40)
                terminal.sees("\x1b[10;1H", place)
                terminal.press(end)
                terminal.ends()
        with Terminal(engine) as terminal:
            terminal.sees("SHARD")
            terminal.process.send_signal(signal.SIGTERM)
            terminal.ends()
        with Terminal(engine, "--count", "2") as terminal:
            terminal.ends()
        reader.close()
        with Terminal(engine) as terminal:
            terminal.sees("SHARD")
            engine.stop()
            terminal.sees("no answer: ")
            terminal.press(b"q")
            terminal.ends()


def test_top_as_text(engine):
    """Where stdout is no terminal, each interval is a block of text, or a line of JSON; it ends with its reader, and without an engine."""
    engine.publish(topic("top"), "x")
    said = corecast(engine, "top", "--once", "--every", "200ms")
    assert "corecast" in said and "SHARD" in said and "delivered" in said and "\x1b" not in said, said
    assert all(len(line) <= 100 for line in said.splitlines()), said
    said = corecast(engine, "top", "--count", "2", "--every", "200ms")
    assert said.count("SHARD  CONN") == 2, said
    lines = corecast(engine, "top", "--count", "3", "--every", "200ms", "--json").splitlines()
    figures = [json.loads(line) for line in lines]
    assert len(figures) == 3 and all(len(one["shards"]) == 2 and 0.1 < one["seconds"] < 5 for one in figures), figures
    assert {"accepted", "published", "delivered", "bytes_sent"} <= figures[0]["rates"].keys()
    command = [Engine.binary, "top", "--admin", f"127.0.0.1:{engine.admin_port}", "--every", "100ms", "--json"]
    top = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert top.stdout.readline()
    top.stdout.close()
    assert top.wait(DEADLINE) == 0, top.stderr.read()
    top.stderr.close()
    for wrong in (["--every", "1ms"], ["--count", "0"], ["--once", "--count", "1"]):
        corecast(engine, "top", *wrong, status=2)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        error = corecast(None, "top", "--once", "--admin", f"127.0.0.1:{probe.getsockname()[1]}", admin=False, status=1)
    assert "start the engine" in error, error
