"""The process: start, signals, admin listener, and the command line against a running engine."""

import json
import signal
import subprocess
import threading
import time

import websockets.exceptions
from engine import DEADLINE, Engine, eventually, together, topic
from with_raw_sockets import WebSocket


def test_sigterm_closes_with_1001(_):
    """SIGTERM closes every WebSocket with 1001 and ends with status 0 within its bound."""
    with Engine("--shards", "2") as engine:
        sockets = [engine.line() for _ in range(20)] + [engine.ws(f"/topics/{topic()}") for _ in range(20)]
        idle = engine.raw()
        codes = []

        def wait(ws):
            try:
                while True:
                    ws.recv(timeout=DEADLINE)
            except websockets.exceptions.ConnectionClosed as closed:
                codes.append(closed.rcvd.code if closed.rcvd else None)

        readers = [threading.Thread(target=wait, args=(ws,)) for ws in sockets]
        for reader in readers:
            reader.start()
        assert engine.stop() == 0, engine.errors
        for reader in readers:
            reader.join()
        assert codes == [1001] * 40, codes
        assert idle.recv(1) == b""
        idle.close()


def test_sigint_is_like_sigterm(_):
    """SIGINT, as from a keyboard, ends an idle engine with status 0."""
    with Engine("--shards", "1") as engine:
        engine.process.send_signal(signal.SIGINT)
        assert engine.process.wait(DEADLINE) == 0, engine.errors


def test_a_second_signal_ends_at_once(_):
    """A peer that does not answer the close delays the end only until a second signal, which is status 1."""
    with Engine("--shards", "1") as engine:
        stubborn = WebSocket(engine)
        assert stubborn.frame()[1].startswith(b"HI ")
        engine.process.send_signal(signal.SIGTERM)
        frames = iter(stubborn.frame, None)
        close = next(payload for first, payload in frames if first == 0x88)
        assert close[:2] == b"\x03\xe9", close
        engine.process.send_signal(signal.SIGTERM)
        assert engine.process.wait(DEADLINE) == 1, engine.errors
        stubborn.connection.close()


def test_it_goes_on_after_being_stopped(_):
    """An engine that is kept from running, longer than glommio lets a task run, goes on afterwards on every shard.

    It once fell asleep for good: a crowded machine did what SIGSTOP does here.
    """
    with Engine("--shards", "2") as engine:
        echoed = [0] * 8
        over = threading.Event()

        def echo(number):
            name = topic("stopped")
            with engine.line() as ws:
                ws.send(f"SUB {name} since=live id=s")
                assert ws.recv(timeout=DEADLINE).startswith("OK s")
                while not over.wait(0.001):
                    ws.send(f"PUB {name} x")
                    ws.recv(timeout=DEADLINE)
                    echoed[number] += 1

        def stop_and_go_on():
            for _ in range(25):
                engine.process.send_signal(signal.SIGSTOP)
                time.sleep(0.12)  # The stop itself: glommio's bound is 100 ms.
                engine.process.send_signal(signal.SIGCONT)
                before = list(echoed)
                eventually(lambda: all(now > then for now, then in zip(echoed, before)), "each connection has its echo")

        def work(name):
            if name != "stops":
                return echo(name)
            try:
                stop_and_go_on()
            finally:
                over.set()

        together(work, ["stops", *range(len(echoed))])


def test_a_taken_port(engine):
    """A second engine on the same port does not start, and does not take half the connections of the first."""
    command = [Engine.binary, "--listen", f"127.0.0.1:{engine.port}", "--admin", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2, done
    assert str(engine.port) in done.stderr and "cure:" in done.stderr, done.stderr
    engine.publish(topic(), "still the first")


def test_admin(engine):
    """The admin listener tells health, readiness and statistics; the totals are the sums of the shards."""
    assert engine.admin("/healthz") == (200, "ok\n")
    assert engine.admin("/readyz") == (200, "ready\n")
    assert engine.admin("/nowhere")[0] == 404
    stats = engine.stats()
    assert [shard["shard"] for shard in stats["shards"]] == [0, 1]
    for name in ("connections", "accepted", "published", "delivered"):
        # Other tests' connections come and go between two columns; accepted only ever grows.
        assert stats["total"][name] == sum(shard[name] for shard in stats["shards"]), name


def test_statistics_follow(_):
    """Connections, subscriptions, published and delivered messages are counted, exactly."""
    name = topic("counted")
    with Engine("--shards", "2") as engine:
        with engine.line() as one, engine.line() as two:
            for ws in (one, two):
                ws.send(f"SUB {name} since=live id=s")
                assert ws.recv(timeout=DEADLINE).startswith("OK s")
            for n in range(10):
                engine.publish(name, str(n))
            for ws in (one, two):
                for _ in range(10):
                    ws.recv(timeout=DEADLINE)
            # Two subscribers, and one curl per message.
            expected = {"published": 10, "delivered": 20, "accepted": 12, "subscriptions": 2}
            counted = lambda: {key: engine.stats()["total"][key] for key in expected}
            eventually(lambda: counted() == expected, f"{expected} are counted")
        eventually(lambda: engine.stats()["total"]["subscriptions"] == 0, "subscriptions end with their connection")


def test_pub_and_sub(engine):
    """`corecast sub` prints what `corecast pub` publishes, in each of its shapes."""
    name = topic("cli")
    done = engine.run("pub", name, "first")
    assert done.returncode == 0, done.stderr
    cursor = done.stdout.strip()
    done = engine.run("sub", name, "--count", "1")
    assert (done.returncode, done.stdout) == (0, f"{name} {cursor} first\n"), done
    done = engine.run("pub", name, "--lines", "--event", "tick", input="zwei\n\ndrei\n")
    assert (done.returncode, len(done.stdout.split())) == (0, 3), done
    done = engine.run("sub", name, "--since", "-3", "--count", "3", "--raw")
    assert done.stdout == "zwei\n\ndrei\n", done
    done = engine.run("sub", name, "--since", cursor, "--count", "1", "--json")
    got = json.loads(done.stdout)
    assert (got["topic"], got["event"], got["data"]) == (name, "tick", "zwei"), done
    done = engine.run("pub", name, "-", input="x" * 65537)
    assert done.returncode == 1 and "413" in done.stderr, done


def test_sub_survives_a_restart(_):
    """`corecast sub` comes back to a restarted engine by itself, and says that the history is another one."""
    name = topic("restart")
    with Engine("--shards", "1") as first:
        port = first.port
        first.publish(name, "before")
        command = [Engine.binary, "sub", name, "--count", "2", "--url", first.url]
        sub = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert sub.stdout.readline().endswith(" before\n")
        assert first.stop() == 0
    with Engine("--shards", "1", listen=f"127.0.0.1:{port}") as second:
        second.publish(name, "after")
        out, errors = sub.communicate(timeout=2 * DEADLINE)
        assert sub.returncode == 0 and out.endswith(" after\n"), (out, errors)
        assert "trying again in" in errors and "gap: " in errors, errors
