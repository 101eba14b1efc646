"""Starts: what they say, in which form, and that one after a kill finds everything as it is left."""

import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile

from engine import DEADLINE, Engine, curl, topic


def failed(*flags, **options):
    """Runs an engine that cannot start and returns its stderr."""
    done = subprocess.run([Engine.binary, "serve", *flags], capture_output=True, text=True, timeout=DEADLINE, **options)
    assert done.returncode == 2, done
    return done.stderr


def test_a_start_is_one_line(_):
    """An engine says once what has started: version, addresses, shards, memory, limits; as text and as JSON."""
    version = subprocess.run([Engine.binary, "--version"], capture_output=True, text=True).stdout.split()[1]
    with Engine("--shards", "2", "--memory", "64M") as engine:
        line = engine.logs(" started ")
        for words in [f'version="{version}"', f'listen="{engine.url}"', "shards=2", 'memory="64M"', 'drain_time="5s"', "took_ms="]:
            assert words in line, (words, line)
        assert engine.stop() == 0
    with Engine("--shards", "1", "--log-format", "json", "--max-connections", "77") as engine:
        line = json.loads(engine.logs('"started"'))
        assert (line["version"], line["listen"], line["shards"]) == (version, engine.url, 1), line
        assert line["max_connections"] == "77" and line["connections"] >= 1 and line["took_ms"] < 10_000, line
        assert engine.stop() == 0
        everything = [json.loads(line) for line in engine.errors]
        assert everything[-1]["message"] == "stopped", everything


def test_failures_are_json_too(shared):
    """With `log-format = "json"`, wherever that is said, what keeps an engine from starting is JSON; without, it is text."""
    taken = f"127.0.0.1:{shared.port}"
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "corecast.toml")
        file.write_text('log-format = "json"\n')
        json_environment = {**os.environ, "CORECAST_LOG_FORMAT": "json"}
        for flags, options, words in [
            (["--log-format", "json", "--listen", "0.0.0.0:1"], {}, "reached from other hosts"),
            (["--listen", "0.0.0.0:1"], {"env": json_environment}, "reached from other hosts"),
            (["--listen", "nonsense"], {"env": json_environment}, "nonsense"),
            (["--config", str(file), "--listen", "0.0.0.0:1"], {}, "reached from other hosts"),
            (["--config", str(file), "--listen", taken, "--admin", "off"], {}, "in use"),
        ]:
            said = [json.loads(line) for line in failed(*flags, **options).splitlines()]
            last = said[-1]
            assert words in last["message"] and last["cure"] and last["level"] == "ERROR", (flags, said)
            assert re.match(r"\d{4}-\d\d-\d\dT", last["timestamp"]), last
        assert failed("--listen", "0.0.0.0:1").startswith("error: ")


def test_a_start_after_a_kill(_):
    """An engine that was killed, with its sockets and its files left behind, is started again with the same words, and serves."""
    name = topic("killed")
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--shards", "2", "--listen", f"unix:{folder}/public", "--take-over", f"{folder}/take-over"]
        with Engine(*flags) as first:
            port = first.port
            first.publish(name, "x")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(DEADLINE)
        assert pathlib.Path(folder, "public").is_socket() and pathlib.Path(folder, "take-over").is_socket()
        with Engine(*flags, listen=f"127.0.0.1:{port}") as second:
            second.publish(name, "y")
            path = ["--unix-socket", f"{folder}/public", "-d", "z"]
            assert curl(f"http://localhost/topics/{name}", *path).status == 200
            assert second.stop() == 0
        assert not pathlib.Path(folder, "public").exists()
