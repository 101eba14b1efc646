"""Pages and names: which origins may do what, under which names the engine may be asked, and what a refusal says."""

import re
import socket

from engine import DEADLINE, Engine, curl, eventually, topic
from with_raw_sockets import statuses, until_closed

LONG = "https://" + ".".join(["a" * 60] * 4) + ".example"
OTHERS = ["https://app.example:443", "https://bücher.example", "capacitor://localhost", "chrome-extension://abcdef", LONG]


def ask(port, path, *headers, method="GET", host=None, version="1.1"):
    """Sends one request and returns status, head and body of the answer."""
    host = [] if host is None else [f"Host: {host}"]
    lines = [f"{method} {path} HTTP/{version}", *host, *headers, "Connection: close", "", ""]
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
        connection.sendall("\r\n".join(lines).encode())
        head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    return statuses(head)[0], head.decode(), body.decode()


def publish(port, origin, host="localhost"):
    return ask(port, f"/topics/{topic('origin')}", f"Origin: {origin}", "Content-Length: 0", method="POST", host=host)


def test_origins_as_browsers_write_them(_):
    """Listed origins are known in the form in which browsers send them: default ports left out, hosts in punycode.

    They were compared word for word with what the operator wrote.
    """
    flags = [flag for origin in OTHERS for flag in ("--origins", origin)]
    with Engine("--shards", "1", *flags) as engine:
        for origin in ("https://app.example", "https://xn--bcher-kva.example", *OTHERS[2:]):
            status, head, _ = publish(engine.port, origin)
            assert status == 200, (origin, head)
            assert f"\r\nAccess-Control-Allow-Origin: {origin}\r\n" in head + "\r\n", (origin, head)
        for origin in ("http://app.example", "https://app.example:444", "capacitor://evil", "https://bcher.example", "null"):
            assert publish(engine.port, origin)[0] == 403, origin


def test_the_default_port_of_the_host(engine):
    """A page of the host itself is no stranger because `Host` names the default port of its scheme, as some proxies write it."""
    for host, origin in [
        ("app.example:443", "https://app.example"), ("app.example:80", "http://app.example"),
        ("app.example", "https://app.example"), ("app.example:8443", "https://app.example:8443"),
    ]:
        assert publish(engine.port, origin, host)[0] == 200, (host, origin)
    for host, origin in [("app.example:443", "http://app.example"), ("app.example:8443", "https://app.example")]:
        assert publish(engine.port, origin, host)[0] == 403, (host, origin)


def test_a_refused_origin_is_told_and_logged(_):
    """The refusal of a page names the setting, and the log names the page: at most ten times, however often it asks."""
    with Engine("--shards", "1") as engine:
        for _ in range(40):
            status, head, body = publish(engine.port, "https://evil.example")
            assert status == 403 and "origins" in body and "Access-Control-Allow-Origin" not in head, (head, body)
        logged = lambda: [line for line in engine.errors if "evil.example" in line]
        eventually(lambda: len(logged()) >= 10, "it is logged")
        assert engine.stop() == 0
        assert len(logged()) == 10, logged()


def test_null_may_be_listed(_):
    """`Origin: null`, which anybody can have, is refused unless it is listed."""
    with Engine("--shards", "1", "--origins", "null") as engine:
        assert publish(engine.port, "null")[0] == 200


def test_names_of_a_loopback_listener(engine):
    """A page that had its own name resolve to this host (DNS rebinding) gets nothing, from no listener."""
    name = topic("rebinding")
    engine.publish(name, "secret")
    for port, path in [(engine.port, f"/topics/{name}"), (engine.port, "/"), (engine.admin_port, "/stats")]:
        for host in (f"evil.example:{port}", f"localhost.evil.example:{port}"):
            status, head, body = ask(port, path, host=host)
            assert status == 421 and "allowed-hosts" in body and "secret" not in body, (head, body)
            assert "Connection: close" in head, head
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"app.localhost:{port}"):
            assert ask(port, path, host=host)[0] == 200, (host, path)
        assert ask(port, path, version="1.0")[0] == 200, path
    own = f"evil.example:{engine.port}"
    for method, headers in [("POST", ["Content-Length: 0"]), ("DELETE", []), ("OPTIONS", ["Access-Control-Request-Method: POST"])]:
        status, head, _ = ask(engine.port, f"/topics/{name}", f"Origin: http://{own}", *headers, method=method, host=own)
        assert status == 421 and "Access-Control-Allow-Origin" not in head, (method, head)
    upgrade = ["Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    status, _, body = ask(engine.port, "/ws", f"Origin: http://{own}", *upgrade, host=own)
    assert status == 421 and "allowed-hosts" in body, body
    assert curl(f"{engine.url}/topics/{name}").json()[0]["data"] == "secret"


def test_hosts_may_be_listed(_):
    """Names in `allowed-hosts` are answered to, on both listeners; names that are not are refused, whatever their port."""
    with Engine("--shards", "1", "--allowed-hosts", "Bücher.example", "--allowed-hosts", ".intern.example") as engine:
        for port, path in [(engine.port, "/"), (engine.admin_port, "/healthz")]:
            for host in (f"xn--bcher-kva.example:{port}", "xn--bcher-kva.example", "a.b.intern.example", "intern.example", "localhost"):
                assert ask(port, path, host=host)[0] == 200, host
            for host in (f"evil.example:{port}", "evil.example", "10.0.0.1"):
                assert ask(port, path, host=host)[0] == 421, host


def test_jsonp_can_be_switched_off(_):
    """With `--jsonp=false` no script is answered, and the refusal names the setting; polls are as they were."""
    with Engine("--shards", "1", "--jsonp=false") as engine:
        name = topic("jsonp")
        engine.publish(name, "secret")
        for path in (f"/topics/{name}?transport=jsonp", f"/topics?topic={name}&transport=jsonp&wait=1"):
            answer = curl(engine.url + path)
            assert answer.status == 403 and "`jsonp`" in answer.json()["error"], (path, answer.body)
            assert b"secret" not in answer.body
        assert curl(f"{engine.url}/topics/{name}").json()[0]["data"] == "secret"
    with Engine("--shards", "1") as engine:
        assert re.match(rb"/\*\*/callback\(\[", curl(f"{engine.url}/topics/t?transport=jsonp&callback=callback").body)


def test_pages_of_all_get_no_cookies(_):
    """A page that only `*` lets in reads what anybody reads: a browser is not told that it may send a user's cookies along."""
    with Engine("--shards", "1", "--origins", "*", "--origins", "https://app.example") as engine:
        for origin, ours in [("https://app.example", True), ("http://localhost:3000", True), ("https://evil.example", False), ("null", False)]:
            for method, headers in [("GET", []), ("OPTIONS", ["Access-Control-Request-Method: POST"])]:
                status, head, _ = ask(engine.port, "/topics/t", f"Origin: {origin}", *headers, method=method, host="localhost")
                assert status in (200, 204) and f"Access-Control-Allow-Origin: {origin}\r\n" in head, (origin, head)
                assert ("Access-Control-Allow-Credentials: true" in head) == ours, (origin, head)


def test_credentials_can_be_switched_off(_):
    """With `--cors-credentials=false` no page of another origin may send a user's cookies along, listed or not; it still reads."""
    with Engine("--shards", "1", "--origins", "https://app.example", "--cors-credentials=false") as engine:
        for origin in ("https://app.example", "http://localhost:3000"):
            status, head, _ = ask(engine.port, "/topics/t", f"Origin: {origin}", host="localhost")
            assert status == 200 and f"Access-Control-Allow-Origin: {origin}\r\n" in head, head
            assert "Credentials" not in head, head


def test_pages_of_ours_can_be_switched_off(_):
    """The demo page and the client for browsers are there, and each is gone without its setting; the rest is as it was."""
    html = "Accept: text/html"
    with Engine("--shards", "1") as engine:
        assert "<html" in ask(engine.port, "/", html, host="localhost")[2]
        assert ask(engine.port, "/corecast.js", host="localhost")[0] == 200
    with Engine("--shards", "1", "--demo=false", "--client-library=false") as engine:
        status, head, body = ask(engine.port, "/", html, host="localhost")
        assert status == 200 and body.startswith("corecast: ") and "Vary: Accept" not in head, (head, body)
        assert ask(engine.port, "/corecast.js", host="localhost")[0] == 404
        assert ask(engine.port, "/corecast.js", "Access-Control-Request-Method: GET", method="OPTIONS", host="localhost")[0] == 404
        engine.publish("t", "x")
        assert curl(f"{engine.url}/topics/t").json()[0]["data"] == "x"


def test_insecure_says_what_it_opens(_):
    """`--insecure` warns once, at the start, of the addresses that it opens and what may be done there."""
    with Engine("--shards", "1", "--insecure", listen="0.0.0.0:0") as engine:
        warned = lambda: [line for line in engine.errors if "--insecure opens" in line]
        eventually(warned, "it warns")
        assert engine.stop() == 0
        (line,) = warned()
        assert "0.0.0.0:0 may publish and read" in line and "configuration" not in line, line
