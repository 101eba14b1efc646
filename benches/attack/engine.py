"""The engine under attack: started afresh for each, on a core of its own, and asked to end when it is over."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

# Time that it may take to end: shutdown-timeout, a grace of two seconds, and a little more.
END_SECONDS = 13.0


def go_before_others(nice):
    """Puts this process before the others of its core, as far as it may: what the rest of the host does must not be taken for the
    engine's doing."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        # Where sessions share the cores evenly, niceness counts only within one.
        os.setsid()
        with open("/proc/self/autogroup", "w") as group:
            group.write(str(nice))
    except OSError:
        pass


def _set_up():
    # It ends with whoever started it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    go_before_others(-15)


class Engine:
    """A running engine; `end` stops it."""

    def __init__(self, binary, port, core, flags, stderr=subprocess.DEVNULL):
        self.port, self.admin = port, port + 1
        place = ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{port + 1}", "--shards", "1", "--cores", str(core)]
        if "--shards" in flags:
            place = place[:4]
        self.process = subprocess.Popen(
            [binary, "serve", *place, *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            preexec_fn=_set_up,
        )
        deadline = time.monotonic() + 10
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"the engine ended with {self.process.returncode}")
            try:
                self.total()
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.process.kill()
                    raise RuntimeError("the engine does not answer") from None
                time.sleep(0.05)

    def total(self, timeout=20.0):
        """What it counts, over all shards."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/stats", timeout=timeout) as answer:
            return json.load(answer)["total"]

    def health_seconds(self, timeout=20.0):
        """How long /healthz takes to answer."""
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.admin), timeout) as conn:
            conn.sendall(b"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            while conn.recv(4096):
                pass
        return time.monotonic() - began

    def memory_bytes(self):
        """Its private memory."""
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith("RssAnon"))
        return int(line.split()[1]) << 10

    def alive(self):
        """Says whether it runs."""
        return self.process.poll() is None

    def end(self):
        """Asks it to end, and returns how long that took; `None` if it had to be killed."""
        began = time.monotonic()
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(END_SECONDS)
            return time.monotonic() - began
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
