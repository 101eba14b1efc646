"""The figures of an engine at rest: taken, compared, shown.

What a soak has opened, subscribed to, remembered and allocated has to be given back: the figures after it are those before it.
"""

import asyncio
import os
import re
import time
import urllib.parse

from wire import BROKEN

# How long topics have to go that were deleted, in seconds.
FORGET_SECONDS = 30.0
# What has to stay as it is for so long before it counts as rest, in seconds.
STILL_SECONDS = 3.0
# What is remembered while figures are taken: the same messages each time, so that histories and homes can be compared.
SHELF_TOPICS = 50
SHELF_MESSAGES = 5

# Verdicts about credentials are a memory of those that were shown last, which is bounded and does not shrink by itself.
TABLES = "tables but grants"
# What a shard remembers of a token at most, in bytes: the grant, and the verdict; the tables of both may have grown to twice.
GRANT_BYTES = 1024
# What a topic of the engine's own remembers at most, in bytes: history-bytes, in blocks.
OWN_TOPIC_BYTES = 128 << 10
# Verdicts of a shard at most.
VERDICTS_MAX = 65_536
SHARDS = 2
# Receive buffers of a shard, in bytes: a mapping of which the kernel gives what is used.
RECEIVE_BYTES = 8 << 20

# Gauges of /stats, and what they may be more after a soak than before it.
GAUGES = {
    "connections": (0, "all have gone"),
    "subscriptions": (0, "they end with their connections"),
    "topics": (0, "nobody reads any"),
    "homes": (0, "the same topics are remembered"),
    "overloaded": (0, "nothing is to be done"),
    "pool_log_bytes": (0, "nobody reads"),
    "pool_history_bytes": (0, "the same messages are remembered"),
    "pool_private_bytes": (0, "nobody is sent anything"),
    "pool_inbound_bytes": (0, "nothing arrives"),
    TABLES: (128 << 10, "chunks that the largest number of topics and subscriptions took"),
    "busy_bytes": (128 << 10, "chunks that the largest number of busy connections took"),
    "scratch_bytes": (256 << 10, "queues keep the length of the longest turn"),
}
# Those of the process.
PROCESS = {
    "open files": (0, "all are closed"),
    "threads": (0, "all are started at start"),
    "receive buffers": (SHARDS * RECEIVE_BYTES, "resident from when a peak needs them first, and kept; there are no more"),
    "resident besides": (8 << 20, "what the allocator keeps of a peak, slots that were not used before, and the verdicts above"),
}

# Where the kernel has joined the mapping of receive buffers with another, they are not told apart.
WITHOUT_RECEIVE_BUFFERS = {"resident besides": ((8 << 20) + SHARDS * RECEIVE_BYTES, "the same, and receive buffers")}


class Figures:
    """What was found at one moment."""

    def __init__(self, total, shards, process, own_topics):
        self.total, self.shards, self.process = total, shards, process
        # How many topics of the engine's own remember something: news of what happened here, which differ each time.
        self.own_topics = own_topics

    def of(self, name):
        if name == TABLES:
            return self.total["table_bytes"] - self.total["grant_bytes"]
        return self.process[name] if name in PROCESS else self.total[name]

    def unaccounted(self):
        """Names the parts whose sum of what subscribers had coming is not what became of it."""
        wrong = []
        for row in (*self.shards, self.total):
            became = row["delivered"] + row["conflated"] + row["filtered"] + row["dropped"] + row["abandoned"]
            if row["owed"] != became:
                where = f"shard {row['shard']}" if "shard" in row else "all shards"
                wrong.append(
                    f"{where}: owed {row['owed']} is not delivered {row['delivered']} + conflated {row['conflated']} + filtered {row['filtered']} + "
                    f"dropped {row['dropped']} + abandoned {row['abandoned']}"
                )
        return wrong


async def asked(site, path):
    """Asks the admin listener; once more if it was not answered, as this host may have stood still."""
    for left in (2, 1, 0):
        try:
            status, answer = await site.admin("GET", path)
            if status == 200:
                return answer
            assert left, (path, status, answer)
        except BROKEN:
            if not left:
                raise
        await asyncio.sleep(0.5)


def resident(pid):
    """Returns the bytes that are resident of the mappings of receive buffers, which are told by their size, and of all others."""
    found = [0, 0]
    is_other = True
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            if mapping := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) 0+ 00:00 0 *$", line):
                # Those of several shards may have become one mapping.
                shards, rest = divmod(int(mapping[2], 16) - int(mapping[1], 16), RECEIVE_BYTES)
                is_other = mapping[3] != "rw-p" or rest != 0 or not 1 <= shards <= SHARDS
            elif re.match(r"[0-9a-f]+-", line):
                is_other = True
            elif line.startswith("Rss:"):
                found[is_other] += int(line.split()[1]) << 10
    return found


async def look(site):
    """Takes the figures of this moment."""
    stats = await asked(site, "/stats")
    receive, besides = resident(site.pid)
    process = {
        "open files": len(os.listdir(f"/proc/{site.pid}/fd")),
        "threads": len(os.listdir(f"/proc/{site.pid}/task")),
        "receive buffers": receive,
        "resident besides": besides,
    }
    own_topics = sum(row["topic"].startswith("$sys/") for row in await asked(site, "/topics?limit=1000"))
    return Figures(stats["total"], stats["shards"], process, own_topics)


async def forget_all(site):
    """Deletes all topics that remember anything, but for the engine's own, which nobody deletes."""
    end = time.monotonic() + FORGET_SECONDS
    while names := [row["topic"] for row in await asked(site, "/topics?limit=1000") if not row["topic"].startswith("$sys/")]:
        if time.monotonic() > end:
            site.ledger.fault(f"topics that were deleted are still there: {names[:10]}")
            return
        try:
            async with await site.open() as peer:
                for name in names:
                    await peer.ask("DELETE", f"/topics/{urllib.parse.quote(name)}", [site.bearer("operator")])
        except BROKEN:
            await asyncio.sleep(0.5)


async def fill_shelf(site):
    """Publishes what is to be remembered while figures are taken: of each topic the same messages, however often it was tried."""
    topic = 0
    while topic < SHELF_TOPICS:
        try:
            async with await site.open() as peer:
                await peer.ask("DELETE", f"/topics/shelf/{topic}", [site.bearer("operator")])
                for number in range(SHELF_MESSAGES):
                    line = f"/topics/shelf/{topic}", [site.bearer("operator")], f"{number} shelf".encode()
                    status, _, body = await peer.ask("POST", *line)
                    assert status == 200, body
            topic += 1
        except BROKEN:
            await asyncio.sleep(0.5)


def allowed(site, after):
    """Returns what each figure may be more, and why: what was fixed, and what goes by tokens that were shown and by the engine's own topics."""
    tokens = SHARDS * min(site.signed, VERDICTS_MAX)
    return {
        "grants": (tokens, "each shard remembers the tokens that were shown"),
        "grant_bytes": (tokens * GRANT_BYTES, "each shard remembers the tokens that were shown"),
        **GAUGES,
        "pool_history_bytes": (after.own_topics * OWN_TOPIC_BYTES, "the same messages are remembered, but for the engine's own"),
        **PROCESS,
        **({} if after.of("receive buffers") else WITHOUT_RECEIVE_BUFFERS),
    }


async def at_rest(site, patience, before=None):
    """Waits until nothing changes any more, and, if there are figures from before, until it is as then; returns what there is."""
    end = time.monotonic() + patience
    last, since = None, time.monotonic()
    while True:
        now = await look(site)
        row = [now.of(name) for name in GAUGES]
        if row != last:
            last, since = row, time.monotonic()
        still = time.monotonic() - since >= STILL_SECONDS
        clean = now.of("connections") == 0 and (before is None or not differences(site, before, now))
        if (still and clean) or time.monotonic() > end:
            return now
        await asyncio.sleep(0.25)


def differences(site, before, after):
    """Names what is more than it was, by more than it may."""
    found = [f"{problem}" for problem in after.unaccounted()]
    for name, (more, why) in allowed(site, after).items():
        if after.of(name) > before.of(name) + more:
            found.append(f"{name}: {after.of(name)} after, {before.of(name)} before ({why}; {more} more would be all right)")
    if after.of("connections") != 0:
        found.append(f"connections: {after.of('connections')} are open, and nobody is there")
    return found


def table(site, before, after):
    """Returns the lines of the table of both."""
    lines = [f"{'at rest':<22}{'before':>14}{'after':>14}{'more':>12}{'may be':>12}"]
    for name, (more, _) in allowed(site, after).items():
        first, second = before.of(name), after.of(name)
        lines.append(f"{name:<22}{first:>14,}{second:>14,}{second - first:>+12,}{more:>12,}")
    return lines
