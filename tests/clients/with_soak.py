"""The soak can fail: what is left open, and what does not come, is found. (`scripts/test` runs the soak itself.)"""

import pathlib
import subprocess
import sys

from engine import Engine

SOAK = pathlib.Path(__file__).parent.parent / "soak" / "run.py"
sys.path.insert(0, str(SOAK.parent))

from witness import Ledger  # noqa: E402


def gap(count, reason="overflow"):
    return {"topic": "t", "from": "e-0", "to": "e-9", "count": count, "reason": reason}


def test_witnesses_notice(_):
    """A witness tells what is lost, doubled, out of order, or missing otherwise than it was told, and nothing else."""
    for what, news, faults in [
        ("all of it", [1, 2, 3], 0),
        ("one is lost", [1, 3], 1),
        ("one comes twice", [1, 2, 2], 1),
        ("two change places", [1, 3, 2], 2),
        ("what is missing was told", [1, gap(3), 5], 0),
        ("in two parts", [1, gap(2), gap(1, "conflated"), 5], 0),
        ("less was told", [1, gap(2), 5], 1),
        ("more was told", [1, gap(4), 5], 1),
        ("a gap of nothing", [1, gap(0), 2], 0),
        ("a gap, and nothing is missing", [1, gap(1), 2], 1),
        ("another epoch, where there must be none", [1, gap(0, "epoch"), 7], 1),
        ("another connection without a cursor", [1, "restart", 7, 8], 0),
        ("and back in time", [7, "restart", 6], 1),
    ]:
        ledger = Ledger()
        witness = ledger.witness("reader", "t")
        for one in news:
            if isinstance(one, int):
                witness.message(f"{one} payload", f"e-{one}")
            elif one == "restart":
                witness.restart()
            else:
                witness.gap(one)
        assert len(ledger.faults) == faults, (what, ledger.faults)


def test_witnesses_know_what_is_in_doubt(_):
    """What was published without an answer may come or not, but not twice; what was answered has to come, until the end."""
    ledger = Ledger()
    ledger.doubtful["t"] = {2}
    for numbers in ([1, 2, 3], [1, 3]):
        witness = ledger.witness("reader", "t")
        ledger.last["t"] = 4
        for number in numbers:
            witness.message(f"{number} payload")
        assert ledger.faults == [] and not witness.complete(), numbers
        witness.message("4 payload")
        assert witness.complete(), numbers
    witness = ledger.witness("reader", "t")
    for number in (1, 2, 2):
        witness.message(f"{number} payload")
    assert len(ledger.faults) == 1, ledger.faults


def fails(fault, what):
    """Runs a short soak in which one thing goes wrong: it ends with status 1, and names it."""
    command = [sys.executable, "-B", str(SOAK), Engine.binary, "0.05", "--warm-up", "2", "--patience", "5", "--fault", fault]
    done = subprocess.run(command, capture_output=True, text=True, timeout=85)
    assert done.returncode == 1, (fault, done.stdout, done.stderr)
    named = [line for line in done.stdout.split("\n") if line.startswith("DIFFERS: ") and what in line]
    assert named, (fault, done.stdout, done.stderr)


def test_what_is_left_open_is_found(_):
    """A soak that leaves a connection open fails, and names how many there are."""
    fails("leave-open", "connections: 1 are open, and nobody is there")


def test_what_does_not_come_is_found(_):
    """A soak whose ledger has a message that was never published fails: each of its readers waits for it."""
    fails("count-one-less", "steady/0 ended with")
