"""The soak can fail: what is left open, and what does not come, is found. (`scripts/test` runs the soak itself.)"""

import pathlib
import subprocess
import sys

from engine import Engine

SOAK = pathlib.Path(__file__).parent.parent / "soak" / "run.py"


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
