"""A running `corecast sub`, and the transports it knows."""

import subprocess
import threading

from engine import DEADLINE, Engine

STREAMS = ["sse", "stream", "multipart", "forever-frame"]
POLLS = ["long-poll", "poll", "jsonp"]
ALL = ["websocket", *STREAMS, *POLLS]


class Sub:
    """A running `corecast sub`; `with` ends it."""

    def __init__(self, url, *arguments):
        command = [Engine.binary, "sub", *arguments, "--url", url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.out, self.errors = b"", b""
        self.readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in ("out", "errors")]
        for reader in self.readers:
            reader.start()

    def _read(self, name):
        pipe = self.process.stdout if name == "out" else self.process.stderr
        while piece := pipe.read1(65536):
            setattr(self, name, getattr(self, name) + piece)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def lines(self):
        return self.out.decode().split("\n")[:-1]

    def end(self, deadline=3 * DEADLINE):
        """Waits for its end and returns what it printed."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end: {self.out[-300:]!r} {self.errors[-1000:]!r}") from None
        for reader in self.readers:
            reader.join(DEADLINE)
        assert status == 0, (status, self.out[-300:], self.errors[-1000:])
        return self.out
