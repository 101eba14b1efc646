"""The engine under the soak, with its configuration, certificates and tokens, and what everybody counts."""

import asyncio
import base64
import collections
import hashlib
import hmac
import json
import pathlib
import secrets
import shutil
import signal
import ssl
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "clients"))

import certificates  # noqa: E402
import engine  # noqa: E402
from wire import Peer  # noqa: E402
from witness import Ledger  # noqa: E402

# Times are short, so that each of them passes many times in a soak: a connection is pinged, a stream ends and comes back. But a client of a
# busy host, in the middle of a storm, has to come to its request within header-timeout. Memory is so small that the flood meets its bounds.
FIXED = """
shards = 2
memory = "96M"
connections = 2048
max-message = "64k"
take-over = "off"
header-timeout = "4s"
request-timeout = "6s"
ping-interval = "2s"
dead-after = "6s"
stream-seconds = "7s"
token-leeway = "0s"
token-max-age = "60s"
log-format = "json"
log-level = "info"
"""

# What reloads change, in turn. The topics of witnesses keep their histories; all else may change under everybody's feet.
VARIANTS = [
    'history-messages = 64\nmax-subscriptions = 1024\ncompress-from = "1k"\n[[topics]]\nmatch = "churn/#"\nhistory-messages = 5\n',
    'history-messages = 32\nmax-subscriptions = 40\ncompress-from = "200"\n[[topics]]\nmatch = "churn/#"\nmax-message = "1k"\n'
    'conflate = true\noccupancy = true\n',
    'history-messages = 64\npublish-rate = 5000\ncompress-from = "off"\n[[topics]]\nmatch = "churn/#"\nlag = "close"\noccupancy = true\n'
    '[[topics]]\nmatch = "open/#"\npublish = "anyone"\nsubscribe = "anyone"\n',
    'origins = ["https://www.example.com"]\nmax-connections-per-subject = 3000\n[[topics]]\nmatch = "churn/7/#"\nhistory-seconds = 1\n',
]
# Each of these must change nothing, and be told.
BROKEN = [
    "this is no TOML\n",
    'no-such-setting = "1"\n',
    'history-messages = "many"\n',
    '[[topics]]\nmatch = "a/#/b"\nhistory-messages = 1\n',
]

# All clients share one loop, on a host that may be busy. If one round of it takes so long, in seconds, a client comes too late for
# header-timeout: to connect over TLS and to ask takes about ten. For so long afterwards what was cut off is not held against the engine.
STILL_SECONDS = 0.4
EXCUSED_SECONDS = 10.0

# How long a token lives, in seconds: less than a soak by far.
TOKEN_SECONDS = 12
# For how long the same one is shown again.
REUSED_SECONDS = 4


class Site:
    """The engine, and what its clients know; `with` ends it and removes its files."""

    def __init__(self, binary):
        engine.Engine.binary = binary
        self.authority = certificates.Authority("corecast soak")
        self.folder = self.authority.folder
        # One to begin with, and others in its place: reloads show them in turn.
        self.pairs = [self.authority.issue(f"pair{number}", "localhost", kind=kind) for number, kind in enumerate(("ecdsa", "rsa"))]
        self.certificate, self.key = self.folder / "shown.pem", self.folder / "shown.key"
        self.secret = secrets.token_hex(32).encode()
        (self.folder / "secret").write_bytes(self.secret)
        (self.folder / "secret").chmod(0o600)
        self.file = self.folder / "corecast.toml"
        self.show(0)
        self.configure(VARIANTS[0])
        shown = certificates.Pair(self.certificate, self.key)
        self.engine = certificates.Secure("--config", str(self.file), pairs=[shown])
        self.tls = ssl.create_default_context(cafile=str(self.authority.certificate))
        self.ledger = Ledger()
        # What was made, by kind: connections, messages, faults.
        self.counts = collections.Counter()
        self.stopping = None
        self.tokens = {}
        # Different tokens since the phase began.
        self.signed = 0
        # The longest time that the clients stood still, in seconds, and when they last did so for too long.
        self.latest = 0.0
        self.stood_still = float("-inf")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.engine.__exit__()
        finally:
            self.authority.__exit__()

    @property
    def pid(self):
        return self.engine.process.pid

    def begin(self):
        """Begins a phase: its own ledger, its own counts."""
        self.ledger = Ledger()
        self.counts = collections.Counter()
        self.signed = 0
        self.stopping = asyncio.Event()

    async def watch_the_clock(self):
        """Notes when this process, and so all clients at once, stood still for so long that the engine may give some up."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            late = time.monotonic() - before - 0.1
            self.latest = max(self.latest, late)
            if late > STILL_SECONDS:
                self.stood_still = time.monotonic()
                self.counts["times that the clients stood still"] += 1

    def is_own_fault(self):
        """Says whether the clients stood still a moment ago: then a connection that was given up meanwhile was given up for good reason."""
        return time.monotonic() - self.stood_still < EXCUSED_SECONDS

    def cut_off(self, text):
        """Notes that a connection was cut off that should not have been, and why it is no fault of the engine's if it is none."""
        if self.is_own_fault():
            self.counts["cut off because the clients stood still"] += 1
        else:
            self.ledger.fault(text)

    async def rest(self, seconds):
        """Waits for so long, or until everything stops."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def token(self, subject, publish=("#",), subscribe=("#",), seconds=TOKEN_SECONDS):
        """Signs a token (HS256), or returns one that it signed a moment ago: those who come at once have the same."""
        now = int(time.time())
        key = (subject, publish, subscribe, seconds)
        signed, token = self.tokens.get(key, (0, ""))
        if now - signed < REUSED_SECONDS and seconds == TOKEN_SECONDS:
            return token
        claims = {"sub": subject, "iat": now, "exp": now + seconds}
        claims["corecast"] = {"publish": list(publish), "subscribe": list(subscribe)}
        parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
        text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
        signature = hmac.new(self.secret, text, hashlib.sha256).digest()
        token = (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()
        self.tokens = {key: row for key, row in self.tokens.items() if now - row[0] < REUSED_SECONDS}
        self.tokens[key] = (now, token)
        self.signed += 1
        return token

    def bearer(self, subject, **rights):
        """Returns the header that shows a fresh token."""
        return f"Authorization: Bearer {self.token(subject, **rights)}"

    async def open(self, kind=Peer, secure=False, **options):
        """Connects to the plain or the TLS listener."""
        self.counts["connections over TLS" if secure else "connections"] += 1
        if secure:
            return await kind.open(self.engine.tls_port, self.tls, **options)
        return await kind.open(self.engine.port, **options)

    async def admin(self, method, path, body=None):
        """Asks the admin listener and returns status and JSON (or text)."""
        async with await Peer.open(self.engine.admin_port) as peer:
            headers = [] if body is None else ["Content-Type: application/json"]
            status, _, answer = await peer.ask(method, path, headers, body)
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, answer.decode()

    def configure(self, text):
        """Writes the configuration, in one piece."""
        if "[[topics]]" not in text:
            text += '[[topics]]\nmatch = "churn/#"\nhistory-messages = 5\n'
        new = self.file.with_suffix(".new")
        settings, rules, rest = text.partition("[[topics]]")
        new.write_text(f'{FIXED}token-key = ["secret:{self.folder}/secret"]\n{settings}{rules}{rest}')
        new.replace(self.file)

    def show(self, number):
        """Puts one of the certificates where the engine reads its own."""
        shutil.copy(self.pairs[number].key, self.key)
        shutil.copy(self.pairs[number].certificate, self.certificate)

    def hang_up(self):
        self.engine.process.send_signal(signal.SIGHUP)

    def lines(self):
        """Returns the lines of the log so far: objects, or the texts of those that are none."""
        found = []
        for line in list(self.engine.errors):
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append(line)
        return found
