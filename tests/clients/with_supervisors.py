"""Whoever starts the engine, as systemd does, and is told how it is: words in datagrams, in their order."""

import contextlib
import os
import pathlib
import signal
import socket
import tempfile
import time

from engine import DEADLINE, Engine, curl, eventually
from with_raw_sockets import WebSocket


@contextlib.contextmanager
def supervisor(abstract=False):
    """A supervisor's socket, and the environment that names it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        name = f"@corecast-{os.getpid()}-{time.monotonic_ns()}" if abstract else str(pathlib.Path(folder, "notify"))
        told.bind(name.replace("@", "\0", 1))
        told.settimeout(DEADLINE)
        yield told, {**os.environ, "NOTIFY_SOCKET": name}


def words(told):
    """Takes the next datagram, as a dictionary."""
    return dict(line.split("=", 1) for line in told.recv(4096).decode().split("\n"))


def test_a_service_says_how_it_is(_):
    """READY once whoever comes is served, RELOADING with the time and READY around each reload, whatever comes of it, STOPPING when it ends: over a
    path and over an abstract name."""
    for abstract in [False, True]:
        with supervisor(abstract) as (told, environment), tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "corecast.toml")
            file.write_text("history-messages = 7\n")
            with Engine("--shards", "2", "--config", str(file), env=environment) as engine:
                ready = words(told)
                assert ready["READY"] == "1" and "MAINPID" not in ready, ready
                assert ready["STATUS"] == f"serves http://127.0.0.1:{engine.port} with 2 shards", ready
                engine.publish("t", "x")
                for text, status in [
                    ("history-messages = 8\n", "was read again"),
                    ("history-messages = 8\n", "was read again"),
                    ("max-message = 1\n", "was not loaded"),
                    ("nonsense", "was not loaded"),
                ]:
                    file.write_text(text)
                    before = time.monotonic_ns() // 1000
                    engine.process.send_signal(signal.SIGHUP)
                    reloading, ready = words(told), words(told)
                    after = time.monotonic_ns() // 1000
                    assert list(reloading) == ["RELOADING", "MONOTONIC_USEC"] and reloading["RELOADING"] == "1", reloading
                    assert before <= int(reloading["MONOTONIC_USEC"]) <= after, (before, reloading, after)
                    assert ready["READY"] == "1" and status in ready["STATUS"], (text, ready)
                engine.process.send_signal(signal.SIGTERM)
                assert words(told) == {"STOPPING": "1", "STATUS": "drains"}
                assert engine.process.wait(DEADLINE) == 0, engine.errors


def test_signs_of_life(_):
    """With a watchdog a sign of life comes in half of its time, also while the engine drains; without one none does, nor for another process."""
    with supervisor() as (told, environment):
        wants = {**environment, "WATCHDOG_USEC": "400000"}
        with Engine("--shards", "2", "--shutdown-timeout", "5s", env=wants) as engine:
            assert words(told)["READY"] == "1"
            begun = time.monotonic()
            for _ in range(3):
                assert words(told) == {"WATCHDOG": "1"}
            assert time.monotonic() - begun < 5 * 0.4, "in time, on a busy machine too"
            # Somebody who does not answer his close holds up the end.
            stubborn = WebSocket(engine)
            assert stubborn.frame()[1].startswith(b"HI ")
            engine.process.send_signal(signal.SIGTERM)
            heard = iter(lambda: words(told), None)
            assert next(said for said in heard if "WATCHDOG" not in said)["STOPPING"] == "1"
            assert words(told) == {"WATCHDOG": "1"}
            stubborn.connection.close()
            assert engine.process.wait(DEADLINE) == 0, engine.errors
        told.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                told.recv(4096)
        told.settimeout(DEADLINE)
        with Engine("--shards", "1", env={**wants, "WATCHDOG_PID": "1"}) as engine:
            assert words(told)["READY"] == "1"
            engine.publish("t", "x")
            assert engine.stop() == 0
            assert words(told)["STOPPING"] == "1", "and no sign before"


def test_a_service_is_taken_over(_):
    """The engine that takes over says that it is the main process now, once it serves; the one before does not say that the service stops."""
    with supervisor() as (told, environment), tempfile.TemporaryDirectory() as folder:
        flags = ["--shards", "1", "--take-over", f"{folder}/take-over"]
        with Engine(*flags, env=environment) as first:
            assert words(told)["READY"] == "1"
            with Engine(*flags, listen=f"127.0.0.1:{first.port}", env=environment) as second:
                said = [words(told), words(told)]
                took = next(one for one in said if "READY" in one)
                gave = next(one for one in said if "READY" not in one)
                assert took["MAINPID"] == str(second.process.pid), said
                assert gave == {"STATUS": "everything was handed over; drains"}, said
                assert first.process.wait(DEADLINE) == 0, first.errors
                second.publish("t", "x")
                assert second.stop() == 0
                assert words(told)["STOPPING"] == "1"


def test_a_supervisor_that_is_none(_):
    """One that is gone, does not read, or has a name that is none, keeps the engine from nothing; what it cannot be told is logged."""
    for name in ["/nowhere/notify", "vsock:2:1"]:
        with Engine("--shards", "1", env={**os.environ, "NOTIFY_SOCKET": name}) as engine:
            engine.logs("the supervisor that NOTIFY_SOCKET names cannot be told anything")
            engine.publish("t", "x")
            assert engine.stop() == 0
    with supervisor() as (told, environment):
        environment["WATCHDOG_USEC"] = "20000"
        with Engine("--shards", "1", env=environment) as engine:
            # The kernel's queue of datagrams is full after a few.
            engine.logs("the supervisor could not be told")
            assert curl(f"{engine.url}/topics/t", "-d", "x").status == 200
            assert engine.admin("/readyz")[0] == 200
            eventually(lambda: engine.total("published") == 1, "it goes on")
            assert engine.stop() == 0
