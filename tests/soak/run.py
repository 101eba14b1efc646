"""Soaks an engine: `python run.py BINARY MINUTES`. See scripts/soak, which finds the engine and the packages.

A phase is all that the soak does, for so long; then everybody goes. The first phase is some seconds of warm-up, after which figures are
taken; the second is the soak itself, after which they must be the same.
"""

import argparse
import asyncio
import pathlib
import sys
import time

import changes
import figures
import malformed
import steady
import troubles
from soaked import Site
from wire import WebSocket

# Counters of the engine that say whom it sent away, and why.
TOLD = ("refused_", "limited_", "violations", "overloads", "tls_broken", "parked", "behind")


def tasks(site):
    """Starts everybody: publishers and troublemakers, which end when they are told to, and readers, which are ended."""
    begin = lambda many: [asyncio.ensure_future(one) for one in many]  # noqa: E731
    readers = begin(steady.readers(site))
    slow = [troubles.slow(site, number) for number in range(troubles.SLOW)]
    others = begin([*steady.publishers(site), *troubles.all_of(site), *changes.all_of(site)])
    others += begin(malformed.malformed(site) for _ in range(4))
    return readers + begin(slow), others


async def phase(site, seconds, patience, fault=None):
    """Does all that a soak does for so many seconds, and waits until each reader has what it has to have."""
    site.begin()
    accepted = (await figures.look(site)).total["accepted"]
    readers, others = tasks(site)
    clock = asyncio.ensure_future(site.watch_the_clock())
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end and site.engine.process.poll() is None:
            await asyncio.sleep(0.1)
        site.stopping.set()
        done, late = await asyncio.wait(others, timeout=patience)
        for task in late:
            site.ledger.fault(f"this does not end: {task}")
        await ended(late)
        for task in done:
            if task.exception() is not None:
                site.ledger.fault(f"this ended by itself: {task.exception()!r}")
        if fault == "count-one-less":
            site.ledger.last[steady.topics()[0]] += 1
        # Their connections may end and begin meanwhile.
        end = time.monotonic() + patience
        while site.ledger.behind() and time.monotonic() < end:
            await asyncio.sleep(0.1)
        for witness in site.ledger.behind():
            last = site.ledger.last.get(witness.topic)
            site.ledger.fault(f"{witness.name}: {witness.topic} ended with {last}, and it has {witness.at} (missing {witness.missing})")
    finally:
        await ended([*readers, clock])
    site.counts["connections accepted"] = (await figures.look(site)).total["accepted"] - accepted
    await figures.forget_all(site)
    await figures.fill_shelf(site)


async def ended(tasks):
    """Ends tasks, again and again: one that is just given what it waits for may not hear it the first time."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=1)


def log_faults(site, broken):
    """Names the lines of the log that must not be there."""
    found = []
    expected = 0
    for line in site.lines():
        if not isinstance(line, dict):
            found.append(f"on stderr, and no line of the log: {line.strip()[:300]}")
        elif line.get("level") == "ERROR":
            if line["message"].startswith(changes.NOT_LOADED):
                expected += 1
            else:
                found.append(f"an error in the log: {line}")
    if expected > broken:
        found.append(f"{broken} files were broken, and the log tells of {expected}")
    return found


def report(site, before, after, seconds):
    """Prints what there was to see."""
    print("\n".join(figures.table(site, before, after)))
    counts = dict(site.counts)
    injected = ("malformed", "slow", "churn", "deletes", "broken reloads", "storms", "expired", "revoked")
    groups = {
        "delivered": lambda name: name.startswith("delivered: "),
        "faults injected": lambda name: name.startswith(injected),
    }
    accepted, published = counts.pop("connections accepted", 0), counts.pop("messages published", 0)
    print(f"in {seconds:.0f} s: {accepted:,} connections accepted, {published:,} messages published")
    print(f"  the clients stood still for {site.latest:.1f} s at most")
    lost = sum(witness.lost for witness in site.ledger.witnesses)
    gaps = ", ".join(f"{reason} {count:,}" for reason, count in sorted(site.ledger.gaps.items()))
    print(f"  witnesses: {len(site.ledger.witnesses)}, which were told gaps of {lost:,} messages ({gaps})")
    told = {name: value - before.total[name] for name, value in after.total.items() if name.startswith(TOLD)}
    print("  the engine counted: " + ", ".join(f"{name} {count:,}" for name, count in sorted(told.items()) if count))
    for title, belongs in groups.items():
        mine = {name: counts.pop(name) for name in sorted(counts) if belongs(name)}
        print(f"  {title}: " + ", ".join(f"{name.removeprefix('delivered: ')} {count:,}" for name, count in mine.items()))
    print("  besides: " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())))


async def soak(arguments):
    """Runs both phases and returns what differs."""
    with Site(arguments.binary) as site:
        print(f"==> warm-up, {arguments.warm_up:.0f} s", flush=True)
        await phase(site, arguments.warm_up, arguments.patience)
        faults = [f"in the warm-up: {fault}" for fault in site.ledger.faults]
        broken = sum(count for name, count in site.counts.items() if name.startswith("broken reloads"))
        before = await figures.at_rest(site, arguments.patience)
        print(f"==> soak, {arguments.minutes * 60:.0f} s", flush=True)
        await phase(site, arguments.minutes * 60, arguments.patience, arguments.fault)
        left = None
        if arguments.fault == "leave-open":
            left = await site.open(WebSocket)
            await left.upgrade("/topics/left?since=live", [site.bearer("left")])
        print("==> waiting for rest", flush=True)
        after = await figures.at_rest(site, arguments.patience, before)
        faults += site.ledger.faults + figures.differences(site, before, after)
        broken += sum(count for name, count in site.counts.items() if name.startswith("broken reloads"))
        report(site, before, after, arguments.minutes * 60)
        if left is not None:
            left.writer.transport.abort()
        status = site.engine.process.poll()
        if status is None:
            status = site.engine.stop()
        if status != 0:
            faults.append(f"the engine ended with status {status}")
        faults += log_faults(site, broken)
    return faults


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Soaks an engine, and says what it has not given back.")
    parser.add_argument("binary", type=lambda text: str(pathlib.Path(text).resolve()))
    parser.add_argument("minutes", type=float)
    parser.add_argument("--warm-up", type=float, default=20.0, metavar="SECONDS")
    parser.add_argument("--patience", type=float, default=60.0, metavar="SECONDS", help="for what is still to come, and for rest")
    parser.add_argument("--fault", choices=("leave-open", "count-one-less"), help="does one thing wrong: it has to be found")
    arguments = parser.parse_args()
    faults = asyncio.run(soak(arguments))
    for fault in faults[:200]:
        print(f"DIFFERS: {fault}")
    print("verdict: " + (f"{len(faults)} things differ" if faults else "nothing lost, doubled or out of order, and all given back"))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
