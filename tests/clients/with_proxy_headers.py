"""PROXY headers, versions 1 and 2, before plain HTTP and before TLS: written by hand, by curl, and by HAProxy."""

import contextlib
import json
import pathlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile

from certificates import Authority
from engine import DEADLINE, Engine, curl, eventually, topic
from with_proxies import free_port
from with_raw_sockets import statuses
from with_tls import get, to_the_end, trusting

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIELDS = b"\x02\x00\x09localhost" + b"\x04\x00\x03\0\0\0"

V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 4242, 443)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + struct.pack(">HH", 4242, 443)


def block(command, family, rest):
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(rest)) + rest


# Each with who the client is then; None: whoever connects.
HEADERS = {
    "1 IPv4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 443\r\n", "192.0.2.7:4242"),
    "1 IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 4242 443\r\n", "[2001:db8::7]:4242"),
    "1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "2 IPv4": (block(1, 0x11, V4), "192.0.2.7:4242"),
    "2 IPv6": (block(1, 0x21, V6), "[2001:db8::7]:4242"),
    "2 fields": (block(1, 0x11, V4 + FIELDS), "192.0.2.7:4242"),
    "2 local": (block(0, 0x00, b""), None),
}


@contextlib.contextmanager
def behind_proxies(*flags):
    """An engine with a plain and a TLS listener that both expect a header; the ports are chosen before, as both settings name them."""
    with Authority() as authority:
        pair = authority.issue("engine", "localhost", "127.0.0.1")
        plain, sealed = free_port(), free_port()
        expected = ["--proxy-protocol", f"127.0.0.1:{plain}", "--proxy-protocol", f"tls://127.0.0.1:{sealed}"]
        with Proxied(f"127.0.0.1:{plain}", f"tls://127.0.0.1:{sealed}", *expected, *pair.flags, *flags) as engine:
            engine.authority = authority
            yield engine


class Proxied(Engine):
    """An engine whose listeners expect PROXY headers, beside one that does not."""

    def __init__(self, plain, sealed, *flags):
        super().__init__("--shards", "2", "--listen", plain, "--listen", sealed, *flags)
        self.proxied_port = int(plain.rsplit(":", 1)[1])
        self.tls_port = int(sealed.rsplit(":", 1)[1])

    def peers(self):
        return {connection["peer"]: connection for connection in json.loads(self.admin("/connections")[1])}


def open_stream(connection, name):
    connection.sendall(f"GET /topics/{name}?transport=stream&since=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = connection.recv(15)
    assert head.startswith(b"HTTP/1.1 200"), head


def test_the_client_is_who_the_proxy_says(_):
    """Behind a header of either version, cut anywhere, the connection is served, plain and with TLS, and its peer is the client's address."""
    with behind_proxies() as engine:
        context = trusting(engine.authority)
        for what, (header, client) in HEADERS.items():
            for sealed in (False, True):
                for pieces in ([header], [header[:5], header[5:-1], header[-1:]], [header[n : n + 1] for n in range(len(header))]):
                    name = topic("proxied")
                    with socket.create_connection(("127.0.0.1", engine.tls_port if sealed else engine.proxied_port), DEADLINE) as bare:
                        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        own = "{}:{}".format(*bare.getsockname())
                        for piece in pieces:
                            bare.sendall(piece)
                        connection = context.wrap_socket(bare, server_hostname="localhost") if sealed else bare
                        open_stream(connection, name)
                        assert (client or own) in engine.peers(), (what, sealed, engine.peers())
                        engine.publish(name, "here")
                        received = b""
                        while b"here" not in received:
                            received += connection.recv(1 << 16)
                        connection.close()
                        eventually(lambda: (client or own) not in engine.peers(), f"{what} is gone")


def test_header_and_request_in_one_piece(_):
    """What comes in the same bytes as the header is heard, once: a request, several, or the beginning of a handshake."""
    with behind_proxies() as engine:
        name = topic("one-piece")
        for header, _client in HEADERS.values():
            with socket.create_connection(("127.0.0.1", engine.proxied_port), DEADLINE) as connection:
                post = f"POST /topics/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
                connection.sendall(header + (post * 3 + get(name, "Connection: close")).encode())
                assert statuses(to_the_end(connection)) == [200] * 4
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = trusting(engine.authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            with socket.create_connection(("127.0.0.1", engine.tls_port), DEADLINE) as connection:
                connection.sendall(header + outgoing.read())
                assert connection.recv(1 << 16).startswith(b"\x16\x03\x03"), "the handshake goes on"
        assert engine.total("published") == 3 * len(HEADERS)


def test_without_sense(_):
    """A header that is missing, malformed, too long or never ends ends its connection, unanswered; nobody else notices."""
    with behind_proxies("--header-timeout", "2s") as engine:
        before = engine.total("tls_broken")
        wrong = {
            "a request": get(topic()).encode(),
            "a handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "another word": b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
            "an address of another family": b"PROXY TCP4 2001:db8::7 198.51.100.1 1 2\r\n",
            "a port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
            "a long line": b"PROXY UNKNOWN " + b"x" * 200,
            "a bare line feed": b"PROXY UNKNOWN\n",
            "another version": SIGNATURE + b"\x11\x11\x00\x0c" + V4,
            "another command": SIGNATURE + b"\x22\x11\x00\x0c" + V4,
            "datagrams": SIGNATURE + b"\x21\x12\x00\x0c" + V4,
            "addresses too short": block(1, 0x21, V4),
            "a field beyond the end": block(1, 0x11, V4 + b"\x02\x00\xffx"),
            "a block too long": SIGNATURE + b"\x21\x11" + struct.pack(">H", 5000) + V4,
        }
        for what, sent in wrong.items():
            for port in (engine.proxied_port, engine.tls_port):
                with socket.create_connection(("127.0.0.1", port), DEADLINE) as connection:
                    connection.sendall(sent)
                    received = b""
                    with contextlib.suppress(ConnectionResetError):
                        received = to_the_end(connection)
                    assert received == b"", (what, port, received)
        eventually(lambda: engine.total("tls_broken") == before + 2 * len(wrong), "each is counted")
        # Those that only begin have the time of a head.
        waiting = [socket.create_connection(("127.0.0.1", port), DEADLINE) for port in (engine.proxied_port, engine.tls_port)]
        for connection, sent in zip(waiting, [b"PROXY TCP4 192.0", SIGNATURE], strict=True):
            connection.sendall(sent)
        for connection in waiting:
            with contextlib.suppress(ConnectionResetError):
                # A plain one may be told that it was too slow.
                assert not to_the_end(connection).startswith(b"HTTP/1.1 2")
            connection.close()
        assert curl(engine.url).status == 200
        eventually(lambda: engine.total("connections") == 0, "nothing is left of them")


def test_a_header_where_none_is_expected(_):
    """On a listener that does not expect one a header is a malformed request: nobody can claim to be somebody else."""
    with Engine("--shards", "1") as engine, engine.raw() as connection:
        connection.sendall(HEADERS["1 IPv4"][0] + get(topic()).encode())
        assert statuses(to_the_end(connection))[:1] == [400]


def test_curl_says_who_its_client_is(_):
    """curl's own header (--haproxy-protocol) is understood, before HTTP and before TLS."""
    with behind_proxies() as engine:
        name = topic("curl")
        trusted = ["--cacert", str(engine.authority.certificate)]
        for url in (f"http://127.0.0.1:{engine.proxied_port}", f"https://127.0.0.1:{engine.tls_port}"):
            assert curl(f"{url}/topics/{name}", "-d", "x", "--haproxy-protocol", *trusted).status == 200, url


HAPROXY = """
global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen sealed
    bind 127.0.0.1:{outside}
    server engine 127.0.0.1:{engine} {send}
"""


def test_haproxy_in_front(_):
    """HAProxy passes TLS through and says who its client is, in either version: the engine shows its certificate, and knows the client."""
    with behind_proxies() as engine:
        for send in ("send-proxy", "send-proxy-v2"):
            folder = pathlib.Path(tempfile.mkdtemp(prefix="corecast-proxy-"))
            outside = free_port()
            configuration = folder / "haproxy.cfg"
            configuration.write_text(HAPROXY.format(outside=outside, engine=engine.tls_port, send=send))
            process = subprocess.Popen(
                ["haproxy", "-db", "-f", configuration], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:

                def up():
                    assert process.poll() is None, "haproxy ended"
                    try:
                        return socket.create_connection(("127.0.0.1", outside), DEADLINE)
                    except OSError:
                        return None

                with eventually(up, "haproxy listens") as bare:
                    own = "{}:{}".format(*bare.getsockname())
                    with trusting(engine.authority).wrap_socket(bare, server_hostname="localhost") as connection:
                        open_stream(connection, topic("haproxy"))
                        assert own in engine.peers(), (send, own, engine.peers())
                        assert re.fullmatch(r"127\.0\.0\.1:\d+", own)
            finally:
                process.kill()
                process.wait()
                shutil.rmtree(folder)
