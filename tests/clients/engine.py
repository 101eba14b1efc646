"""One engine process under test: started on free ports, asked, stopped."""

import itertools
import json
import queue
import re
import signal
import socket
import subprocess
import threading
import time

import websockets.sync.client

DEADLINE = 10.0
_topics = itertools.count(1)


def topic(name="t"):
    """Returns a topic that no other test uses."""
    return f"test/{name}/{next(_topics)}"


def eventually(condition, what, deadline=DEADLINE):
    """Waits until `condition()` is true and returns its value."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(0.01)


def together(work, names):
    """Does the same for several names at once: most of the time of such tests is waiting."""
    failures = []

    def one(name):
        try:
            work(name)
        except BaseException as failure:  # Whatever it was, the test has to know.
            failures.append((name, failure))

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        name, failure = failures[0]
        raise AssertionError(f"{name}: {failure!r}, and {len(failures) - 1} more") from failure


class Engine:
    """A running engine; `with` stops it."""

    binary = None

    def __init__(self, *flags, listen="127.0.0.1:0", **popen):
        command = [self.binary, "serve", "--listen", listen, "--admin", "127.0.0.1:0", *flags]
        popen = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **popen}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **popen)
        self.errors = []
        if self.process.stderr is not None:
            threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()
        # Lines go through a queue, so that a silent engine fails the test instead of stopping it.
        lines = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
        self.greeting = ""
        while "try: " not in self.greeting:
            try:
                self.greeting += lines.get(timeout=DEADLINE)
            except queue.Empty:
                self.process.kill()
                raise AssertionError(f"the engine did not start: {self.greeting!r} {self.errors}") from None
        self.port = int(re.search(r"listening on http://[\d.]+:(\d+)", self.greeting).group(1))
        self.admin_port = int(re.search(r"admin on http://[\d.]+:(\d+)", self.greeting).group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        """Sends SIGTERM and returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE + 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the engine did not stop on SIGTERM") from None

    def ws(self, path, **options):
        """Opens a WebSocket with the `websockets` library."""
        options = {"open_timeout": DEADLINE, "close_timeout": DEADLINE, "compression": None, **options}
        return websockets.sync.client.connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)

    def line(self, **options):
        """Opens a WebSocket that speaks the line protocol; its first line is taken."""
        ws = self.ws("/ws", subprotocols=["corecast.v1"], **options)
        hello = ws.recv(timeout=DEADLINE)
        assert hello.startswith("HI corecast.v1 "), hello
        return ws

    def raw(self, receive_bytes=None):
        """Opens a TCP connection, with a small receive buffer if asked."""
        connection = socket.socket()
        connection.settimeout(DEADLINE)
        if receive_bytes is not None:
            # Before the connection stands, or the window is already offered.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.connect(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def admin(self, path):
        """Asks the admin listener and returns status and body."""
        answer = curl(f"http://127.0.0.1:{self.admin_port}{path}")
        return answer.status, answer.body.decode()

    def stats(self):
        """Returns the statistics."""
        status, body = self.admin("/stats")
        assert status == 200, body
        return json.loads(body)

    def total(self, counter):
        """Returns one counter of all shards together."""
        return self.stats()["total"][counter]

    def logs(self, words):
        """Waits until the log has a line with all of these words, and returns that."""
        words = [words] if isinstance(words, str) else words
        found = lambda: [line for line in list(self.errors) if all(word in line for word in words)]
        return eventually(found, f"{words} in {self.errors}")[0]

    def publish(self, name, data, *arguments):
        """Publishes with curl and returns the cursor."""
        answer = curl(f"{self.url}/topics/{name}", "--data-binary", "@-", *arguments, data=data)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()["cursor"]

    def run(self, *arguments, **options):
        """Runs `corecast` with these arguments against this engine."""
        return subprocess.run(
            [self.binary, *arguments, "--url", self.url], capture_output=True, text=True, timeout=DEADLINE, **options
        )


class Answer:
    """What curl got: status, headers by lower-case name, body."""

    def __init__(self, output):
        head, self.body = output.split(b"\r\n\r\n", 1)
        while head.startswith((b"HTTP/1.1 100", b"HTTP/1.0 100")):
            head, self.body = self.body.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            self.headers[name.strip().lower()] = value.strip()

    def json(self):
        return json.loads(self.body)


def curl(url, *arguments, data=None):
    """Runs curl and returns its answer. `data` goes to its standard input."""
    if isinstance(data, str):
        data = data.encode()
    command = ["curl", "--silent", "--show-error", "--include", "--noproxy", "*", "--max-time", str(int(DEADLINE)), "--globoff"]
    done = subprocess.run([*command, *arguments, url], input=data or b"", capture_output=True, timeout=DEADLINE + 5)
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    return Answer(done.stdout)


def message(text):
    """Splits a MSG into topic, cursor, options and payload (str or bytes, as the frame was)."""
    newline = "\n" if isinstance(text, str) else b"\n"
    head, payload = text.split(newline, 1)
    head = head if isinstance(head, str) else head.decode()
    word, name, cursor, *options = head.split(" ")
    assert word == "MSG", head
    return name, cursor, options, payload


def sequence(cursor):
    """Returns the number in a cursor; for everybody else it is opaque."""
    return int(cursor.split("-")[1])
