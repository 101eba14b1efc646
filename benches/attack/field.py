"""What an attack is, and what it is given.

An attack is a function that runs in a process of its own: it prepares, calls `field.ready()`, which returns when the innocent publishes,
attacks until `field.until`, and returns what is worth saying. What must be looked at afterwards, once its process has ended, is another
function, which names the faults that it finds.
"""

import dataclasses
import time
from collections.abc import Callable

ATTACKS = []


@dataclasses.dataclass
class Field:
    """Where an attack happens."""

    port: int
    seconds: float
    engine: object
    pipe: object
    until: float = 0.0

    def ready(self):
        """Waits for the moment at which the attack begins."""
        self.pipe.send("ready")
        self.pipe.recv()
        self.until = time.monotonic() + self.seconds

    def goes_on(self):
        """Says whether it shall still attack."""
        return time.monotonic() < self.until


@dataclasses.dataclass
class Attack:
    """An attack by its name."""

    name: str
    about: str
    run: Callable
    flags: list
    after: Callable
    stderr_full: bool
    # Time that preparing may take.
    patience: float


def attack(name, about, flags=(), after=None, stderr_full=False, patience=60.0):
    """Makes an attack of a function."""

    def take(run):
        found = after or (lambda engine, said: [])
        ATTACKS.append(Attack(name, about, run, list(flags), found, stderr_full, patience))
        return run

    return take


def settled(condition, seconds):
    """Waits for a condition; says whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
