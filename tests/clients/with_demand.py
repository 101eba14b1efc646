"""What is wanted (`$sys/demand`) and who reads a topic (`$sys/presence/TOPIC`), over a real kernel: right in the end, whoever comes and goes."""

import contextlib
import json
import pathlib
import random
import tempfile
import time

from engine import DEADLINE, Engine, curl, topic

RULES = '[[topics]]\nmatch = "test/#"\ndemand = true\npresence = true\n'


@contextlib.contextmanager
def telling():
    """Runs an engine of three shards with these rules, which tells soon what is gone."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "corecast.toml"
        file.write_text('gone-after = "500ms"\n' + RULES)
        with Engine("--shards", "3", "--config", str(file)) as engine:
            yield engine


class Rows:
    """Rows of a topic with keys, as a subscriber has them."""

    def __init__(self, line, name):
        self.line, self.rows, self.complete = line, {}, False
        line.send(f"SUB {name} since=earliest")

    def hear(self, seconds):
        with contextlib.suppress(TimeoutError):
            head, _, payload = self.line.recv(timeout=seconds).partition("\n")
            words = head.split(" ")
            if words[0] == "EOS":
                self.complete = True
            elif words[0] == "MSG":
                key = next(word[4:] for word in words if word.startswith("key="))
                if "op=delete" in words:
                    del self.rows[key]
                else:
                    self.rows[key] = json.loads(payload)
            return True
        return False

    def until(self, keys):
        end = time.monotonic() + DEADLINE
        while set(self.rows) != set(keys) or not self.complete:
            assert time.monotonic() < end, (sorted(self.rows), sorted(keys), self.complete)
            self.hear(0.1)


def test_what_is_wanted_is_told(_):
    """Subscribers of 60 topics come and go on three shards: a feeder has all of it at once, what changes, and in the end what is so; so has a newcomer."""
    dice = random.Random(1)
    with telling() as engine, contextlib.ExitStack() as stack:
        names = [topic("wanted") for _ in range(60)]
        lines = [stack.enter_context(engine.line()) for _ in range(9)]
        have = [set() for _ in lines]
        for name in names[:20]:
            lines[0].send(f"SUB {name}")
            have[0].add(name)
        feeder = Rows(stack.enter_context(engine.line()), "$sys/demand")
        feeder.until(names[:20])
        for _ in range(2_000):
            n = dice.randrange(len(lines))
            name = dice.choice(names)
            lines[n].send(f"{'UNSUB' if name in have[n] else 'SUB'} {name}")
            have[n] ^= {name}
        wanted = set().union(*have)
        feeder.until(wanted)
        Rows(stack.enter_context(engine.line()), "$sys/demand").until(wanted)
        for line in lines:
            line.close()
        feeder.until([])
        poll = curl(f"{engine.url}/topics/$sys/demand?since=earliest")
        assert not [row for row in json.loads(poll.body) if row.get("op") != "delete"], poll.body


def test_who_is_there_is_told(_):
    """Forty connections come and go: whoever reads the presence of their topic has the ones that are there."""
    name = topic("room")
    with telling() as engine, contextlib.ExitStack() as stack:
        readers = [engine.ws(f"/topics/{name}") for _ in range(40)]
        rows = Rows(stack.enter_context(engine.line()), f"$sys/presence/{name}")
        end = time.monotonic() + DEADLINE
        while len(rows.rows) < 40:
            assert time.monotonic() < end, rows.rows
            rows.hear(0.1)
        assert all(row["connections"] == 1 and row["name"] == key for key, row in rows.rows.items())
        for reader in readers[::2]:
            reader.close()
        for reader in readers[1::2]:
            # Gone without a word.
            reader.socket.close()
        rows.until([])
