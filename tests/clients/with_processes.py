"""The process and what surrounds it: stderr and stdout that nobody reads, too few threads, hang-ups, restarts after a kill."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import tempfile

from engine import DEADLINE, Engine, curl, eventually, topic
from with_raw_sockets import WebSocket

NOBODY = 65534


@contextlib.contextmanager
def unread():
    """The writing end of a pipe that is full and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(writer)
        os.close(reader)


def refused(engine, count):
    """Sends requests that are logged as warnings."""
    for _ in range(count):
        assert curl(f"{engine.url}/topics/t", "-d", "x", "-H", "Origin: https://evil.example").status == 403


def test_an_unread_stderr_stops_nothing(_):
    """With a stderr that nobody reads, shards that log go on delivering, and SIGTERM ends the engine in order.

    A shard that logged once waited for the reader for ever, and so did the end of the process.
    """
    name = topic("unread")
    with unread() as stderr, Engine("--shards", "2", "--log-level", "debug", stderr=stderr) as engine:
        with engine.line() as ws:
            ws.send(f"SUB {name} since=live id=s")
            assert ws.recv(timeout=DEADLINE).startswith("OK s")
            refused(engine, 20)
            bad = engine.raw()
            bad.sendall(b"nonsense\r\n\r\n")
            assert bad.recv(100).startswith(b"HTTP/1.1 400 ")
            for n in range(20):
                engine.publish(name, str(n))
                assert ws.recv(timeout=DEADLINE).endswith(f"\n{n}")
            counted = lambda: engine.stats()["process"]["log_lines_left_out"] > 0
            eventually(counted, "what was left out is counted")
        assert engine.stop() == 0


def test_an_unread_stderr_does_not_delay_a_second_signal(_):
    """A second SIGTERM ends the engine at once, whoever does not read its stderr and whoever does not answer its close."""
    with unread() as stderr, Engine("--shards", "1", "--shutdown-timeout", "1h", stderr=stderr) as engine:
        stubborn = WebSocket(engine)
        assert stubborn.frame()[1].startswith(b"HI ")
        engine.process.send_signal(signal.SIGTERM)
        frames = iter(stubborn.frame, None)
        assert next(payload for first, payload in frames if first == 0x88)[:2] == b"\x03\xe9"
        engine.process.send_signal(signal.SIGTERM)
        assert engine.process.wait(DEADLINE) == 1
        stubborn.connection.close()


def test_an_unread_stdout_does_not_keep_it_from_serving_and_ending(_):
    """A greeting that nobody reads keeps the engine neither from serving nor from ending."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with unread() as stdout:
        command = [Engine.binary, "--listen", f"127.0.0.1:{port}", "--admin", "off", "--shards", "1"]
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)
        listens = lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0
        eventually(listens, "it listens")
        assert curl(f"http://127.0.0.1:{port}/topics/t", "-d", "x").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


def test_sub_ends_though_nobody_reads_it(engine):
    """`corecast sub` ends on a signal although it waits for who reads its stdout."""
    name = topic("sub")
    for _ in range(4):
        engine.publish(name, "x" * 60000)
    with unread() as stdout:
        command = [Engine.binary, "sub", name, "--since", "earliest", "--raw", "--url", engine.url]
        sub = subprocess.Popen(command, stdout=stdout)
        # write(2) to its stdout; a machine that does not tell lets it be asked a moment earlier.
        system_call = pathlib.Path(f"/proc/{sub.pid}/syscall")
        waits = lambda: not os.access(system_call, os.R_OK) or system_call.read_text().startswith("1 0x1 ")
        eventually(waits, "it waits for its reader")
        sub.send_signal(signal.SIGTERM)
        assert sub.wait(DEADLINE) in (0, 1)


def test_a_hangup_ends_nothing(_):
    """SIGHUP reads the configuration again, and ends neither the engine nor a connection, however often it is said; SIGTERM does."""
    # The tests themselves may be run where it is ignored, as by nohup, and their children would inherit that.
    heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with Engine("--shards", "2", preexec_fn=heard) as engine:
        stubborn = WebSocket(engine)
        assert stubborn.frame()[1].startswith(b"HI ")
        for _ in range(3):
            engine.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("no configuration file to read again" in line for line in engine.errors), "it says so")
        engine.publish(topic(), "still here")
        engine.process.send_signal(signal.SIGTERM)
        frames = iter(stubborn.frame, None)
        assert next(payload for first, payload in frames if first == 0x88)[:2] == b"\x03\xe9"
        engine.process.send_signal(signal.SIGHUP)
        # The answer to the close; a second SIGTERM would not have waited for it.
        stubborn.send(0x88, b"\x03\xe9")
        assert engine.process.wait(DEADLINE) == 0, engine.errors
        stubborn.connection.close()


def test_nohup_is_heard(_):
    """A SIGHUP that was ignored when the engine was started, as nohup does it, changes nothing."""
    ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Engine("--shards", "1", preexec_fn=ignore) as engine:
        engine.process.send_signal(signal.SIGHUP)
        engine.publish(topic(), "still here")
        assert engine.process.poll() is None
        assert engine.stop() == 0


def test_too_few_threads(_):
    """However few threads there may be, the engine either cannot start, with cause and cure and status 2, or serves and ends.

    It panicked at its start, behind "listening on", or at SIGTERM before.
    """
    if os.geteuid() != 0:
        return  # The limit counts all that a user runs, and only root can become a user who runs nothing.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        binary = shutil.copy(Engine.binary, folder)
        started = []
        for threads in range(1, 11):
            limits = lambda: (
                resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads)),
                os.setgid(NOBODY - threads),
                os.setuid(NOBODY - threads),
            )
            command = [binary, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--memory", "16M"]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, preexec_fn=limits
            )
            if greeting := process.stdout.readline():
                started.append(threads)
                assert greeting.startswith("corecast "), greeting
                while "listening on" not in greeting:
                    greeting = process.stdout.readline()
                with socket.create_connection(("127.0.0.1", int(greeting.rsplit(":", 1)[1])), DEADLINE) as connection:
                    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    assert connection.recv(9) == b"HTTP/1.1 "
                    process.send_signal(signal.SIGTERM)
                    out, errors = process.communicate(timeout=DEADLINE + 5)
                assert process.returncode == 0, (threads, errors)
            else:
                out, errors = process.communicate(timeout=DEADLINE)
                assert process.returncode == 2 and "ulimit -u" in errors and "cure:" in errors, (threads, errors)
            assert "panicked" not in errors, (threads, errors)
        # The first, the log's, the signals', the control plane's, the admin listener's, the authority's, that of key sets, and one for each
        # core: and with that many it does start.
        shards = min(2, os.cpu_count())
        assert started == list(range(7 + shards, 11)), started


def test_check_counts_threads(_):
    """`corecast check` says that there are too few threads, as `serve` would."""
    if os.geteuid() != 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        binary = shutil.copy(Engine.binary, folder)
        limits = lambda: (resource.setrlimit(resource.RLIMIT_NPROC, (3, 3)), os.setgid(NOBODY - 20), os.setuid(NOBODY - 20))
        done = subprocess.run([binary, "check"], capture_output=True, text=True, cwd=folder, preexec_fn=limits, timeout=DEADLINE)
        assert done.returncode == 2 and "ulimit -u" in done.stderr, done


def test_a_start_right_after_a_kill(_):
    """An engine that is started right after another was killed finds its port, with the connections of the other, free."""
    with Engine("--shards", "2") as first:
        port = first.port
        for _ in range(3):
            connections = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(50)]
            first.process.kill()
            first.process.wait(DEADLINE)
            first = Engine("--shards", "2", listen=f"127.0.0.1:{port}")
            for connection in connections:
                connection.close()
        first.publish(topic(), "here again")
        assert first.stop() == 0


def test_stalled_peers_of_the_admin_listener(engine):
    """Peers that stall on the admin listener keep no probe waiting: it is answered before any of them is told to hurry."""
    stalled = []
    for _ in range(40):
        connection = socket.create_connection(("127.0.0.1", engine.admin_port), DEADLINE)
        connection.sendall(b"GET /heal")
        stalled.append(connection)
    assert engine.admin("/healthz") == (200, "ok\n")
    assert engine.admin("/stats")[0] == 200
    assert stalled[-1].recv(100).startswith(b"HTTP/1.1 408 ")
    for connection in stalled:
        connection.close()
