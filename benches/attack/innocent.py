"""The innocent: ten subscribers of a topic that has nothing to do with any attack, and a publisher on a fixed schedule.

A process of its own that goes before the attackers on their core, so that what it sees is what the engine does. A message is due at
start + n / rate, whatever happens, and its latency counts from then.
"""

import multiprocessing
import os
import select
import time

from engine import go_before_others
from wire import frame, websocket

SUBSCRIBERS = 10
TOPIC = "/topics/innocent?since=live"

# Bytes of a payload: when it was due, in nanoseconds, and padding.
BYTES = 64

# Time for what is late to arrive after the last message was due.
LATE_SECONDS = 3.0


class Innocent:
    """Starts with `start`, and tells with `stop` what became of its messages."""

    def __init__(self, port, core, rate):
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_live, args=(other, port, core, rate), daemon=True)
        self.process.start()
        self.pipe.recv()

    def start(self):
        """Begins to publish."""
        self.pipe.send("start")

    def stop(self):
        """Ends publishing, waits for what is late, and returns what was found."""
        self.pipe.send("stop")
        found = self.pipe.recv() if self.pipe.poll(LATE_SECONDS + 30) else None
        self.process.join(1)
        self.process.kill()
        return found


def _go_first(core):
    os.sched_setaffinity(0, {core})
    go_before_others(-20)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass


class _Subscriber:
    def __init__(self, port):
        self.conn = websocket(port, TOPIC)
        self.conn.setblocking(False)
        self.rest = b""

    def read(self, now_ns, latencies_ns):
        """Takes what is there; returns False when the connection has ended."""
        try:
            part = self.conn.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            part = b""
        data = self.rest + part
        while len(data) >= 2 and len(data) >= 2 + (data[1] & 127):
            opcode, end = data[0] & 15, 2 + (data[1] & 127)
            if opcode == 9:
                self.conn.send(frame(data[2:end], 10))
            elif opcode == 8:
                return False
            else:
                latencies_ns.append(now_ns - int(data[2:22]))
            data = data[end:]
        self.rest = data
        return bool(part)


def _live(pipe, port, core, rate):
    _go_first(core)
    subscribers = [_Subscriber(port) for _ in range(SUBSCRIBERS)]
    publisher = websocket(port, TOPIC)
    publisher.setblocking(False)
    by_fd = {each.conn.fileno(): each for each in subscribers}
    epoll = select.epoll()
    for fd in by_fd:
        epoll.register(fd, select.EPOLLIN)
    epoll.register(publisher.fileno(), select.EPOLLIN)
    pipe.send("ready")
    pipe.recv()
    latencies_ns, unsent, due, cut_off, publisher_lost = [], b"", 0, 0, False
    start_ns = time.monotonic_ns()
    step_ns = int(1e9 / rate)
    stop_at_ns = None
    while True:
        now_ns = time.monotonic_ns()
        if stop_at_ns is None and pipe.poll():
            pipe.recv()
            stop_at_ns = now_ns
        while stop_at_ns is None and now_ns >= start_ns + due * step_ns:
            unsent += frame(b"%020d" % (start_ns + due * step_ns) + b"." * (BYTES - 20))
            due += 1
        if unsent and not publisher_lost:
            try:
                unsent = unsent[publisher.send(unsent) :]
            except BlockingIOError:
                pass
            except OSError:
                publisher_lost = True
        if stop_at_ns is not None:
            late = now_ns - stop_at_ns > LATE_SECONDS * 1e9
            if late or len(latencies_ns) >= due * SUBSCRIBERS or not by_fd:
                break
            wait_ns = 20_000_000
        else:
            wait_ns = min(start_ns + due * step_ns - now_ns, 20_000_000)
        for fd, _ in epoll.poll(max(wait_ns, 0) / 1e9):
            if fd == publisher.fileno():
                # It is subscribed too, and hears its own messages.
                try:
                    publisher_lost |= not publisher.recv(65536)
                except BlockingIOError:
                    pass
                except OSError:
                    publisher_lost = True
                if publisher_lost:
                    epoll.unregister(fd)
            elif fd in by_fd and not by_fd[fd].read(time.monotonic_ns(), latencies_ns):
                epoll.unregister(fd)
                by_fd.pop(fd).conn.close()
                cut_off += 1
    latencies_ns.sort()

    def quantile(part):
        place = min(len(latencies_ns) - 1, int(len(latencies_ns) * part))
        return latencies_ns[place] / 1e6 if latencies_ns else None

    pipe.send(
        {
            "due": due * SUBSCRIBERS,
            "delivered": len(latencies_ns),
            "cut_off": cut_off,
            "publisher_lost": publisher_lost,
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
        }
    )
