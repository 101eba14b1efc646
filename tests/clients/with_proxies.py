"""nginx and HAProxy in front of the engine, with the configurations that docs/proxies shows, and nginx with its defaults."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import urllib.request

import websockets.sync.client
from engine import DEADLINE, Engine, curl, eventually, together, topic
from sub import ALL, Sub
from transports import STREAMS, Stream, items

DOCUMENTED = pathlib.Path(__file__).parent.parent.parent / "docs" / "proxies"

# What nginx does with nothing but an address: HTTP/1.0 to the engine, and answers buffered.
NGINX_BARE = """
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{engine}; }}
    }}
}}
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Proxy:
    """A proxy in front of an engine, its files in a temporary folder; `with` ends it."""

    def __init__(self, kind, engine, change=lambda text: text, up="/topics/up"):
        self.up = up
        self.kind, self.engine = kind, engine
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corecast-proxy-"))
        self.folder.chmod(0o755)  # The workers are another user.
        self.port = free_port()
        self.configuration = self.folder / "configuration"
        text = change(getattr(self, kind)())
        self.configuration.write_text(text if kind == "haproxy" else self._in_folder(text))
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise

    def nginx(self):
        text = (DOCUMENTED / "nginx.conf").read_text()
        return self._substitute(text, {"listen 80;": f"listen 127.0.0.1:{self.port};", "127.0.0.1:8080": f"127.0.0.1:{self.engine.port}"})

    def nginx_bare(self):
        return NGINX_BARE.format(port=self.port, engine=self.engine.port)

    def haproxy(self):
        text = (DOCUMENTED / "haproxy.cfg").read_text()
        if os.geteuid() != 0:
            text = re.sub(r"(?m)^    (user|group) .*$", "", text)
        return self._substitute(
            text,
            {
                "bind :80\n": f"bind 127.0.0.1:{self.port}\n",
                "server engine 127.0.0.1:8080": f"server engine 127.0.0.1:{self.engine.port}",
                "check port 8081": f"check port {self.engine.admin_port}",
            },
        )

    @staticmethod
    def _substitute(text, places):
        for old, new in places.items():
            assert old in text, f"the documented configuration has no {old!r}"
            text = text.replace(old, new)
        return text

    def _in_folder(self, text):
        """Makes nginx write where the test may, and nowhere else."""
        text = re.sub(r"(?m)^pid .*$", "", text).replace("/var/log/nginx", str(self.folder))
        for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]:
            text = text.replace("http {\n", f"http {{\n    {name}_temp_path {self.folder}/{name};\n", 1)
        return text

    def start(self):
        """Starts it, and waits until it lets requests through."""
        if self.kind == "haproxy":
            command = ["haproxy", "-W", "-db", "-f", self.configuration]
        else:
            own = f"daemon off; pid {self.folder}/nginx.pid;"
            command = ["nginx", "-p", self.folder, "-c", self.configuration, "-g", own]
        self.log = open(self.folder / "stderr", "ab")
        # A group of its own: its workers are ended with it.
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
        )

        def up():
            assert self.process.poll() is None, (self.folder / "stderr").read_text()[-2000:]
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
                connection.request("GET", self.up)
                return connection.getresponse().status == 200
            except OSError:
                return False

        eventually(up, f"{self.kind} is up")

    def kill(self):
        """Ends it as a machine that fails: no process of it says goodbye."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()

    def reload(self):
        """Asks it to begin anew with its configuration, as `systemctl reload` does."""
        self.process.send_signal(signal.SIGUSR2 if self.kind == "haproxy" else signal.SIGHUP)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ws(self, path, **options):
        options = {"open_timeout": DEADLINE, "close_timeout": DEADLINE, "compression": None, **options}
        return websockets.sync.client.connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)


KINDS = ["nginx", "haproxy", "nginx_bare"]


def test_streams_pass_at_once(engine):
    """Each message of each stream comes through while the stream is open and quiet, also where nginx buffers and uses 1.0."""
    for kind in KINDS:
        with Proxy(kind, engine) as proxy:

            def check(transport):
                name = topic(f"proxied-{transport}")
                with Stream(f"{proxy.url}/topics/{name}?transport={transport}&callback=c&since=earliest") as stream:
                    assert "200" in stream.head.split("\r\n")[0], stream.head
                    for n in range(3):
                        engine.publish(name, f"message {n}")
                        found = stream.items(transport, n + 1)
                        assert [one["data"] for one in found] == [f"message {m}" for m in range(n + 1)], (kind, found)

            together(check, STREAMS)


def test_requests_and_answers_pass(engine):
    """Publishing, polls, tags, long polls and errors come through with the headers that matter."""
    for kind in KINDS:
        name = topic(f"proxied-{kind}")
        with Proxy(kind, engine) as proxy:
            url = f"{proxy.url}/topics/{name}"
            answer = curl(url, "-d", "hello", "-H", "Corecast-Event: tick")
            assert answer.status == 200, answer.body
            cursor = answer.json()["cursor"]
            answer = curl(url)
            assert answer.json() == [{"topic": name, "cursor": cursor, "event": "tick", "data": "hello"}]
            assert answer.headers["corecast-cursor"] == cursor
            assert answer.headers["cache-control"] == "no-cache, no-transform"
            assert curl(url, "-H", f"If-None-Match: {answer.headers['etag']}").status == 304
            timer = threading.Timer(0.2, lambda: curl(url, "-d", "later"))
            timer.start()
            answer = curl(f"{url}?transport=long-poll&since={cursor}&wait=9")
            assert [one["data"] for one in answer.json()] == ["later"], kind
            assert curl(f"{proxy.url}/topics/a//b", "--path-as-is").status == 400
            # A batch nearly as large as the engine takes.
            line = json.dumps({"topic": name, "data": "x" * 50000}) + "\n"
            ndjson = ["-H", "Content-Type: application/x-ndjson", "--data-binary", "@-"]
            answer = curl(f"{proxy.url}/topics", *ndjson, data=line * 20)
            assert answer.json() == {"published": 20}, (kind, answer.body)
            answer = curl(url, "--data-binary", "@-", data=b"x" * 65537)
            assert answer.status == 413 and answer.json()["error"], kind


def test_websockets_pass(engine):
    """A WebSocket comes through in both directions, with its subprotocol, raw and with the line protocol."""
    for kind in ["nginx", "haproxy"]:
        name = topic(f"proxied-ws-{kind}")
        with Proxy(kind, engine) as proxy:
            with proxy.ws("/ws", subprotocols=["corecast.v1"]) as line, proxy.ws(f"/topics/{name}?since=live") as raw:
                assert line.subprotocol == "corecast.v1"
                assert line.recv(timeout=DEADLINE).startswith("HI corecast.v1 ")
                line.send(f"SUB {name} id=1")
                assert line.recv(timeout=DEADLINE).startswith("OK 1 ")
                raw.send("from raw")
                assert line.recv(timeout=DEADLINE).endswith("\nfrom raw")
                assert raw.recv(timeout=DEADLINE) == "from raw"
                line.send(f"PUB {name}\nfrom line")
                assert raw.recv(timeout=DEADLINE) == "from line"
                big = "x" * 65536
                raw.send(big)
                assert raw.recv(timeout=DEADLINE) == big


def test_no_publication_is_lost_to_an_ending_stream(_):
    """While 150 streams end, others publish over the connections that nginx keeps to the engine, and each of them is answered 200.

    A stream's end used to close its connection unannounced: nginx took it for one to keep, and the next request on it was lost.
    """
    streams, rounds = 150, 2
    with Engine("--shards", "2", "--stream-seconds", "1s") as own, Proxy("nginx", own) as proxy:
        name = topic("kept")

        def one(number):
            for _ in range(rounds):
                stream = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=3 * DEADLINE)
                stream.request("GET", f"/topics/{name}/{number}?transport=stream")
                body = stream.getresponse().read()
                assert body, "a stream begins with a sign of life"
                stream.close()
                # At once, and on a connection of its own: which of the kept ones it gets is nginx's choice.
                publisher = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=3 * DEADLINE)
                publisher.request("POST", f"/topics/{name}/{number}", body=b"x")
                answer = publisher.getresponse()
                assert answer.status == 200, (number, answer.status, answer.read())
                publisher.close()

        together(one, range(streams))
        eventually(lambda: own.stats()["total"]["published"] == streams * rounds, "each is published, once")


def test_refused_bodies_cost_nobody_else(_):
    """What is refused before its body is read ends its connection, and says so: the next of nginx's requests goes over another one."""
    with Engine("--shards", "1") as own, Proxy("nginx", own) as proxy:
        for number in range(12):
            refused = curl(f"{proxy.url}/nothing", "--data-binary", "@-", data=b"x" * 100_000)
            assert refused.status == 404, (number, refused.status, refused.body)
            answer = curl(f"{proxy.url}/topics/{topic('after')}", "-d", "x")
            assert answer.status == 200, (number, answer.status, answer.body)


def test_strangers_behind_a_proxy_may_nothing_by_default(_):
    """With the proxy among trusted-proxies whoever comes through it from elsewhere may neither publish nor read what nothing gives."""
    with Engine("--trusted-proxies", "127.0.0.1") as own:
        for kind in KINDS:
            with Proxy(kind, own) as proxy:
                url = f"{proxy.url}/topics/{topic('stranger')}"
                # As another trusted proxy in front of this one would have said it.
                stranger = ["-H", "X-Forwarded-For: 192.0.2.7"]
                for asked in (["-d", "x"], ["-X", "DELETE"], []):
                    status = curl(url, *asked, *stranger).status
                    assert status in (401, 403), (kind, asked, status)
                # A client of this host is none.
                assert curl(url, "-d", "x").status == 200, kind


def test_the_origin_is_checked_behind_a_proxy(_):
    """A page of the host that the browser sees is let in, and one of any other is not: the proxies keep Host."""
    # Not on a loopback address, or its pages were all allowed; reached over one by the proxies all the same.
    with Engine("--insecure", listen="0.0.0.0:0") as own:
        own.port = int(re.search(r"listening on http://0\.0\.0\.0:(\d+)", own.greeting).group(1))
        for kind in ["nginx", "haproxy"]:
            with Proxy(kind, own) as proxy:
                host = f"localhost:{proxy.port}"
                for origin, status in [(f"https://{host}", 200), ("https://localhost", 403), ("https://evil.example", 403)]:
                    answer = curl(f"{proxy.url}/topics/{topic()}", "-d", "x", "-H", f"Host: {host}", "-H", f"Origin: {origin}")
                    assert answer.status == status, (kind, origin, answer.status, answer.body)


def test_sub_over_every_transport_through_a_proxy_that_is_killed(engine):
    """A proxy that dies and comes back, and one that is reloaded, cost no message and give none twice, on any transport."""
    for kind in ["nginx", "haproxy"]:
        with Proxy(kind, engine) as proxy:
            names = {transport: topic(f"killed-{transport}") for transport in ALL}
            subs = {
                transport: Sub(proxy.url, name, "--transport", transport, "--since", "earliest", "--count", "12", "--raw")
                for transport, name in names.items()
            }

            def publish(first, last):
                for n in range(first, last):
                    for name in names.values():
                        engine.publish(name, str(n))

            def printed(count):
                for transport, sub in subs.items():
                    eventually(lambda: len(sub.lines) >= count, f"{count} over {transport}: {sub.out} {sub.errors}")

            publish(0, 3)
            printed(3)
            proxy.kill()
            publish(3, 6)
            proxy.start()
            printed(6)
            proxy.reload()
            publish(6, 12)
            for transport, sub in subs.items():
                with sub:
                    assert sub.end() == b"".join(b"%d\n" % n for n in range(12)), (kind, transport, sub.errors)
                    assert b"gap" not in sub.errors, (kind, transport, sub.errors)


def test_a_browser_resumes_through_a_proxy(engine):
    """Last-Event-ID passes: whoever comes back with it after the proxy was restarted gets what follows, and only that."""
    for kind in KINDS:
        name = topic(f"resumed-{kind}")
        with Proxy(kind, engine) as proxy:
            url = f"{proxy.url}/topics/{name}?transport=sse&since=earliest"
            with Stream(url) as stream:
                cursor = engine.publish(name, "one")
                assert stream.items("sse", 1)[0]["cursor"] == cursor
                proxy.kill()
                stream.end()
            engine.publish(name, "two")
            proxy.start()
            with Stream(url, "-H", f"Last-Event-ID: {cursor}") as stream:
                engine.publish(name, "three")
                assert [one["data"] for one in stream.items("sse", 2)] == ["two", "three"], kind


def test_a_stopping_engine_is_seen(_):
    """The end of a stream passes in order when the engine stops, and then the proxy says that nobody is there."""
    for kind in ["nginx", "haproxy"]:
        with Engine() as own, Proxy(kind, own) as proxy:
            name = topic("last")
            with Stream(f"{proxy.url}/topics/{name}?transport=stream&since=earliest") as stream:
                own.publish(name, "last words")
                stream.items("stream", 1)
                assert own.stop() == 0
                assert stream.end() == 0, "the body was complete"
                words, refused = items("stream", stream.text)
                assert (words["data"], refused["refused"]["name"]) == ("last words", "draining")
            assert curl(f"{proxy.url}/topics/{name}").status in (502, 503), kind


def peers(engine):
    """Returns the addresses of the connections of an engine, without their ports."""
    with urllib.request.urlopen(f"http://127.0.0.1:{engine.admin_port}/connections", timeout=DEADLINE) as answer:
        return sorted(row["peer"].rpartition(":")[0] for row in json.load(answer))


def test_a_trusted_proxy_says_who_asks(_):
    """The client that a trusted proxy names is the peer, for a WebSocket as long as it lasts; one that is not trusted is not believed,
    and what makes no sense leaves the connection's own address."""
    cases = [
        (["127.0.0.1"], "x-forwarded-for", {"X-Forwarded-For": "203.0.113.9, 192.0.2.7"}, "192.0.2.7"),
        (["127.0.0.0/8", "10.0.0.0/8"], "x-forwarded-for", {"X-Forwarded-For": "192.0.2.7, 10.1.2.3"}, "192.0.2.7"),
        (["127.0.0.1"], "x-forwarded-for", {"X-Forwarded-For": "2001:db8::7"}, "[2001:db8::7]"),
        (["127.0.0.1"], "x-forwarded-for", {"X-Forwarded-For": "192.0.2.7, unknown"}, "127.0.0.1"),
        (["127.0.0.1"], "x-forwarded-for", {"Forwarded": "for=192.0.2.7"}, "127.0.0.1"),
        (["127.0.0.1"], "x-forwarded-for", {}, "127.0.0.1"),
        (["10.0.0.0/8"], "x-forwarded-for", {"X-Forwarded-For": "192.0.2.7"}, "127.0.0.1"),
        ([], "x-forwarded-for", {"X-Forwarded-For": "192.0.2.7"}, "127.0.0.1"),
        (["127.0.0.1"], "forwarded", {"Forwarded": 'for=203.0.113.9, for="[2001:db8::7]:4711";proto=https'}, "[2001:db8::7]"),
        (["127.0.0.1"], "forwarded", {"X-Forwarded-For": "192.0.2.7"}, "127.0.0.1"),
    ]
    for trusted, header, headers, expected in cases:
        flags = [flag for network in trusted for flag in ("--trusted-proxies", network)]
        with Engine("--shards", "1", "--forwarded-header", header, *flags) as own:
            url = f"ws://127.0.0.1:{own.port}/ws"
            with websockets.sync.client.connect(url, additional_headers=headers, proxy=None) as ws:
                assert ws.recv(timeout=DEADLINE).startswith("HI ")
                assert peers(own) == [expected], (trusted, headers, peers(own))


def test_requests_of_a_kept_connection_have_their_own_clients(_):
    """Over a connection that a proxy keeps each request is its own client's; one that names nobody is the proxy's."""
    # Strangers may do what nothing gives: it is about who they are.
    with Engine("--shards", "1", "--trusted-proxies", "127.0.0.1", "--insecure") as own:
        connection = http.client.HTTPConnection("127.0.0.1", own.port, timeout=DEADLINE)
        for named, expected in [("192.0.2.1", "192.0.2.1"), ("192.0.2.2", "192.0.2.2"), (None, "127.0.0.1"), ("192.0.2.3", "192.0.2.3")]:
            connection.request("GET", "/topics/t", headers={"X-Forwarded-For": named} if named else {})
            assert connection.getresponse().read() == b"[]"
            assert peers(own) == [expected], (named, peers(own))


def test_pages_behind_a_trusted_proxy(_):
    """What the client spoke decides what a page's own host is; a page of the visitor's own machine is a stranger if the visitor is."""
    # Strangers may do what nothing gives: it is about who they are.
    with Engine("--shards", "1", "--trusted-proxies", "127.0.0.1", "--insecure") as own:
        url = f"{own.url}/topics/{topic()}"
        visitor = ["-H", "X-Forwarded-For: 192.0.2.7", "-H", "Host: app.example"]
        for origin, extra, status in [
            ("https://app.example", ["-H", "X-Forwarded-Proto: https"], 200),
            ("http://app.example", ["-H", "X-Forwarded-Proto: https"], 403),
            ("http://app.example", ["-H", "X-Forwarded-Proto: http"], 200),
            ("https://app.example", ["-H", "X-Forwarded-Proto: http"], 403),
            ("https://app.example", [], 200),
            ("http://localhost:3000", [], 403),
        ]:
            answer = curl(url, "-d", "x", "-H", f"Origin: {origin}", *visitor, *extra)
            assert answer.status == status, (origin, extra, answer.status, answer.body)
        assert curl(url, "-d", "x", "-H", "Origin: http://localhost:3000").status == 200, "without a proxy between"


def test_methods_are_no_rights(_):
    """A proxy that lets only GET through keeps nobody from publishing over a WebSocket, which begins with one; the engine does, once it knows
    that strangers come through a proxy and a rule lets them read."""

    def only_get(text):
        found = "proxy_http_version 1.1;"
        assert found in text
        return text.replace(found, found + "\n            limit_except GET { deny all; }")

    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write('[[topics]]\nmatch = "news/#"\nsubscribe = "anyone"\n')
        file.flush()
        for flags, is_open in [([], True), (["--trusted-proxies", "127.0.0.1", "--config", file.name], False)]:
            with Engine("--shards", "1", *flags) as own, Proxy("nginx", own, only_get, up="/topics/news/up") as proxy:
                assert curl(f"{proxy.url}/topics/news/a", "-d", "x").status == 403, "nginx itself"
                with proxy.ws("/ws", subprotocols=["corecast.v1"]) as line:
                    assert line.recv(timeout=DEADLINE).startswith("HI ")
                    line.send("SUB news/a id=1")
                    assert line.recv(timeout=DEADLINE).startswith("OK 1 ")
                    line.send("PUB news/a id=2\nover GET")
                    told = line.recv(timeout=DEADLINE)
                    assert told.startswith(("OK 2 ", "MSG news/a ") if is_open else "ERR 2 unauthorized"), (flags, told)


def test_tls_as_the_comments_say(engine):
    """With the commented lines taken into use, both proxies speak TLS, and pages over HTTPS are let in."""
    for kind in ["nginx", "haproxy"]:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="corecast-tls-"))
        folder.chmod(0o755)
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
            + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            + ["-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        (folder / "certificate-and-key.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
        port = free_port()

        def use(text):
            text, count = re.subn(r"(?m)^( +)# ((listen|ssl_certificate|bind|ssl_certificate_key)\b.*)$", r"\1\2", text)
            assert count == (3 if kind == "nginx" else 1), text
            text = text.replace("/etc/nginx", str(folder)).replace("/etc/haproxy", str(folder))
            return re.sub(r"(listen|bind :?)\s*443", lambda found: f"{found.group(1).removesuffix(':').strip()} 127.0.0.1:{port}", text)

        try:
            with Proxy(kind, engine, use):
                url, name = f"https://localhost:{port}", topic("tls")
                trusted = ["--cacert", str(certificate)]
                page = ["-H", f"Origin: {url}"]
                assert curl(f"{url}/topics/{name}", "-d", "x", "--http1.1", *trusted, *page).status == 200
                with Stream(f"{url}/topics/{name}?transport=sse", "--http2", *trusted) as stream:
                    assert stream.head.startswith("HTTP/2 200"), stream.head
                    assert stream.items("sse", 1)[0]["data"] == "x"
                context = ssl.create_default_context(cafile=str(certificate))
                with websockets.sync.client.connect(
                    f"wss://localhost:{port}/topics/{name}", ssl=context, origin=url, proxy=None, compression=None
                ) as ws:
                    assert ws.recv(timeout=DEADLINE) == "x"
        finally:
            shutil.rmtree(folder)
