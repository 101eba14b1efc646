"""How many read a topic (`occupancy`): told to whoever reads `$sys/occupancy/TOPIC`, over a real kernel."""

import contextlib
import json
import pathlib
import tempfile
import time

from engine import DEADLINE, Engine, curl, eventually, topic

COUNTED = '[[topics]]\nmatch = "test/#"\noccupancy = true\n'


@contextlib.contextmanager
def counting(text=COUNTED):
    """Runs an engine of three shards with these rules; gives it and their file."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "corecast.toml"
        file.write_text(text)
        with Engine("--shards", "3", "--config", str(file)) as engine:
            yield engine, file


def until_told(ws, readers):
    """Reads numbers until this one comes; returns how many came."""
    end = time.monotonic() + DEADLINE
    count = 0
    while time.monotonic() < end:
        count += 1
        if json.loads(ws.recv(timeout=DEADLINE)) == {"readers": readers}:
            return count
    raise AssertionError(f"{readers} readers are not told")


def value(engine, name):
    answer = curl(f"{engine.url}/topics/$sys/occupancy/{name}?transport=value")
    return json.loads(answer.body)["readers"] if answer.status == 200 else None


def rows(engine, name):
    status, body = engine.admin("/topics")
    assert status == 200, body
    return [row.get("readers") for row in json.loads(body) if row["topic"] == name]


def test_readers_are_told(_):
    """WebSockets, raw and line, come and go on three shards: whoever reads the number is told the last one, and not one for each of them."""
    name = topic("occupancy")
    with counting() as (engine, _), contextlib.ExitStack() as readers, engine.ws(f"/topics/$sys/occupancy/{name}") as told:
        until_told(told, 0)
        begun = time.monotonic()
        raw = [readers.enter_context(engine.ws(f"/topics/{name}")) for _ in range(40)]
        for _ in range(20):
            line = readers.enter_context(engine.line())
            line.send(f"SUB {name}")
        count = until_told(told, 60)
        assert count <= time.monotonic() - begun + 2, count
        assert value(engine, name) == 60 and rows(engine, name) == [60]
        for ws in raw[::2]:
            ws.close()
        until_told(told, 40)
        for ws in raw[1::2]:
            # Gone without a word.
            ws.socket.close()
        line.send(f"UNSUB {name}")
        until_told(told, 19)


def test_the_rule_can_be_switched_while_they_read(_):
    """A reload counts readers that are there, and forgets what was told when the rule goes."""
    name = topic("occupancy")
    with counting("") as (engine, file), engine.ws(f"/topics/{name}"), engine.ws(f"/topics/{name}"):
        assert value(engine, name) is None
        with engine.ws(f"/topics/$sys/occupancy/{name}") as told:
            for _ in range(2):
                file.write_text(COUNTED)
                assert curl(f"http://127.0.0.1:{engine.admin_port}/reload", "-X", "POST").status == 200
                until_told(told, 2)
                assert value(engine, name) == 2
                file.write_text("")
                assert curl(f"http://127.0.0.1:{engine.admin_port}/reload", "-X", "POST").status == 200
                eventually(lambda: value(engine, name) is None, "it is forgotten")
                assert rows(engine, name) in ([], [None])
