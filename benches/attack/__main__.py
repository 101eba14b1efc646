"""Attacks an engine in every way that is known, one after another, each beside an innocent topic, and says who suffered.

Every attack meets an engine that was started afresh on a core of its own; attackers and the innocent share another, on which the
innocent goes first. Everything stays on loopback and ends by itself.

Exit status: 0 if the goal holds under every attack, 1 if not, 2 if the command makes no sense or the engine does not start.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
import traceback

import held  # noqa: F401
import limits  # noqa: F401
import readers  # noqa: F401
import work  # noqa: F401
from engine import Engine, go_before_others
from field import ATTACKS, Attack, Field
from innocent import Innocent

# The goal: everything arrives, nobody is cut off, no turn is longer, no innocent message is later than this.
TURN_MS_MAX = 10.0
P99_MS_MAX = 20.0

# Messages a second that the innocent publishes.
RATE = 50

# Nobody attacks: what the host itself does to the innocent.
QUIET = Attack("quiet", "nobody attacks", lambda field: rest(field), [], lambda engine, said: [], False, 10)


def rest(field):
    """Waits."""
    field.ready()
    while field.goes_on():
        time.sleep(0.1)
    return {}


def attacking(pipe, attack, field, core):
    """The attackers' process."""
    os.sched_setaffinity(0, {core})
    # Before the rest of the host, and behind the innocent.
    go_before_others(-10)
    try:
        pipe.send(attack.run(field))
    except Exception as error:  # noqa: BLE001 - whatever ends an attack is told, and is no verdict on the engine
        traceback.print_exc()
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))


def full_pipe():
    """The writing end of a pipe that nobody reads and that takes nothing more."""
    _, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        pass
    try:
        while True:
            os.write(write, b"x")
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    return write


def measure(attack, arguments):
    """Runs one attack and returns its row."""
    stderr = full_pipe() if attack.stderr_full else subprocess.DEVNULL
    engine = Engine(arguments.engine, arguments.port, arguments.server_core, attack.flags, stderr)
    innocent = attacker = None
    faults = []
    try:
        innocent = Innocent(arguments.port, arguments.client_core, RATE)
        pipe, other = multiprocessing.Pipe()
        field = Field(arguments.port, arguments.seconds, engine, other)
        attacker = multiprocessing.Process(
            target=attacking, args=(other, attack, field, arguments.client_core), daemon=True
        )
        attacker.start()
        ready = pipe.recv() if pipe.poll(attack.patience) else RuntimeError("it was not ready in time")
        if isinstance(ready, Exception):
            raise ready
        prepared_ms = engine.total()["turn_us_max"] / 1e3
        innocent.start()
        # The innocent begins first, so that there is something to suffer.
        time.sleep(0.5)
        pipe.send("go")
        said = pipe.recv() if pipe.poll(arguments.seconds + 60) else RuntimeError("it did not end in time")
        found = innocent.stop()
        attacker.kill()
        attacker.join()
        if isinstance(said, Exception):
            raise said
        # Counters are brought up to date four times a second.
        time.sleep(0.6)
        try:
            faults += attack.after(engine, said)
            total = engine.total(30)
        except OSError as error:
            faults.append(f"the engine does not answer: {error}")
            total = {"turn_us_max": float("nan")}
    finally:
        for process in (attacker, innocent and innocent.process):
            if process:
                process.kill()
        ended = engine.end()
        if attack.stderr_full:
            os.close(stderr)
    if found is None:
        found = {"due": 0, "delivered": 0, "cut_off": 0, "publisher_lost": True, "p50_ms": None, "p99_ms": None, "max_ms": None}
        faults.append("the innocent did not report")
    turn_ms = total["turn_us_max"] / 1e3
    if found["delivered"] < found["due"]:
        faults.append(f"{found['due'] - found['delivered']} innocent messages not delivered")
    if found["cut_off"] or found["publisher_lost"]:
        faults.append("innocent connections cut off")
    if not arguments.delivery_only:
        if not turn_ms <= TURN_MS_MAX:
            faults.append(f"a turn of {turn_ms:.0f} ms")
        if found["p99_ms"] is None or found["p99_ms"] > P99_MS_MAX:
            faults.append("innocent p99")
    if ended is None:
        faults.append("SIGTERM does not end it")
    said["ended in"] = "killed" if ended is None else f"{ended:.1f} s"
    return {
        "attack": attack.name,
        **found,
        "turn_ms": round(turn_ms, 2),
        "turn_before_ms": round(prepared_ms, 2),
        "faults": faults,
        "said": said,
    }


def row_of(row):
    """The row as a line of the table."""
    ms = lambda value: "-" if value is None else f"{value:.1f}"  # noqa: E731
    verdict = "holds" if not row["faults"] else "MISSED: " + ", ".join(row["faults"])
    said = ", ".join(f"{what} {value}" for what, value in row["said"].items())
    return (
        f"| {row['attack']} | {row['delivered']} of {row['due']} | {row['cut_off']} | {ms(row['p50_ms'])} | {ms(row['p99_ms'])} "
        f"| {ms(row['max_ms'])} | {ms(row['turn_ms'])} | {verdict} | {said} |"
    )


HEAD = (
    "| attack | innocent delivered | cut off | p50 ms | p99 ms | max ms | longest turn ms | goal | besides |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def arguments_of():
    parser = argparse.ArgumentParser(prog="scripts/attack", description=__doc__.split("\n", 1)[0])
    parser.add_argument("attacks", nargs="*", help="attacks to make [default: all]; see --list")
    parser.add_argument("--list", action="store_true", help="prints the attacks")
    parser.add_argument("--engine", default="target/release/corecast", help="the engine [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each attack lasts [default: %(default)s]")
    parser.add_argument("--port", type=int, default=25100, help="where the engine listens; the next is the admin listener's")
    parser.add_argument("--delivery-only", action="store_true", help="judges what is delivered, not how soon: for busy hosts")
    parser.add_argument("--server-core", type=int, default=min(os.sched_getaffinity(0)), help="[default: the first]")
    parser.add_argument("--client-core", type=int, default=max(os.sched_getaffinity(0)), help="[default: the last]")
    parser.add_argument("--json", help="also writes what was found to a file")
    return parser.parse_args()


def main():
    arguments = arguments_of()
    known = {attack.name: attack for attack in [QUIET, *ATTACKS]}
    if arguments.list:
        for attack in known.values():
            print(f"{attack.name:<20} {attack.about}")
        return 0
    unknown = [name for name in arguments.attacks if name not in known]
    if unknown:
        print(f"scripts/attack: there is no attack {unknown[0]}\n  cure: see scripts/attack --list", file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # What nobody attacks comes first: the others mean nothing if that does not hold.
    wanted = [QUIET] + [known[name] for name in arguments.attacks or known if name != QUIET.name]
    print(HEAD, flush=True)
    rows = []
    for attack in wanted:
        try:
            row = measure(attack, arguments)
        except RuntimeError as error:
            row = {
                "attack": attack.name, "due": 0, "delivered": 0, "cut_off": 0, "p50_ms": None, "p99_ms": None, "max_ms": None,
                "turn_ms": None, "faults": [f"not measured: {error}"], "said": {},
            }
        rows.append(row)
        print(row_of(row), flush=True)
    held_rows = sum(not row["faults"] for row in rows)
    print(f"\n{held_rows} of {len(rows)} hold")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"format": 1, "engine": arguments.engine, "seconds": arguments.seconds, "rows": rows}, file, indent=1)
    return 0 if held_rows == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
