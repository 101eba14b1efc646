"""Steady publishers and readers: a few topics, every transport, and a witness for each reader.

They come back whenever the engine sends them away in order, with the cursor that they have. Being cut off without a word is a fault.
"""

import asyncio
import json
import random
import time

from returning import reading, returning
from wire import BROKEN, Closed, Refused, WebSocket, again_in, gap_of, script

# Seconds between two messages of a publisher.
PAUSE = 0.1
# How many messages a batch has, and how often a publisher of batches publishes.
BATCH = 5


def payload(number):
    """A message whose size is sometimes above that from which messages are compressed."""
    return f"{number} {'lorem ipsum ' * random.choice((1, 1, 1, 4, 40, 150))}"


class Numbers:
    """What one publisher publishes: each number once."""

    def __init__(self, site, topic):
        self.ledger, self.counts, self.topic = site.ledger, site.counts, topic
        self.next = 1

    def done(self, many=1):
        """They were answered: they have to come."""
        self.next += many
        self.ledger.last[self.topic] = self.next - 1
        self.counts["messages published"] += many

    def doubt(self, many=1):
        """Nobody knows whether they were published; they may come once, or not."""
        self.ledger.doubtful[self.topic].update(range(self.next, self.next + many))
        self.counts["messages in doubt"] += many
        self.next += many


async def by_request(site, topic, secure, many):
    """Publishes by POST on a connection that is kept, one message or a batch at a time."""
    numbers = Numbers(site, topic)

    async def once():
        async with await site.open(secure=secure) as peer:
            while not site.stopping.is_set():
                bearer = site.bearer("publisher")
                if many == 1:
                    target, body, extra = f"/topics/{topic}", payload(numbers.next), []
                else:
                    lines = [{"topic": topic, "data": payload(numbers.next + n)} for n in range(many)]
                    target, body, extra = "/topics", "\n".join(map(json.dumps, lines)), ["Content-Type: application/x-ndjson"]
                try:
                    status, headers, answer = await peer.ask("POST", target, [bearer, *extra], body.encode())
                except BROKEN:
                    numbers.doubt(many)
                    raise
                if status == 200:
                    numbers.done(many)
                else:
                    if "published" in answer.decode():
                        numbers.doubt(many)
                    raise Refused(status, answer.decode(), float(headers.get("retry-after", 0)))
                await site.rest(PAUSE * many)

    await returning(site, f"publisher of {topic}", once)


async def by_line(site, topic, secure):
    """Publishes by the line protocol, each message answered before the next, with a fresh token before the old one ends."""
    numbers = Numbers(site, topic)

    async def once():
        async with await site.open(WebSocket, secure) as ws:
            protocols = ["corecast.v1", f"bearer.{site.token('publisher')}"]
            await ws.upgrade("/ws", protocols=protocols)
            assert (await ws.hear()).startswith("HI ")
            fresh = time.monotonic()
            while not site.stopping.is_set():
                if time.monotonic() - fresh > 5:
                    await ws.say(f"AUTH {site.token('publisher')} id=a")
                    assert (await ws.hear()).startswith("OK a")
                    fresh = time.monotonic()
                try:
                    await ws.say(f"PUB {topic} event=tick id=p\n{payload(numbers.next)}")
                    told = await ws.hear()
                except (Closed, *BROKEN):
                    numbers.doubt()
                    raise
                if not told.startswith("OK p "):
                    raise Refused(0, told, again_in(told))
                numbers.done()
                await site.rest(PAUSE)
            await ws.close()

    await returning(site, f"publisher of {topic}", once)


async def by_raw(site, topic, secure):
    """Publishes over a raw WebSocket, where nothing is answered: its own message comes back to it as to everybody."""
    numbers = Numbers(site, topic)

    async def once():
        async with await site.open(WebSocket, secure) as ws:
            fresh = time.monotonic()
            await ws.upgrade(f"/topics/{topic}?since=live", [site.bearer("publisher")], deflate=True)
            while not site.stopping.is_set() and time.monotonic() - fresh < 5:
                try:
                    await ws.say(payload(numbers.next), random.choice((0x81, 0x82)))
                    told = await ws.hear()
                except (Closed, *BROKEN):
                    numbers.doubt()
                    raise
                if not told.startswith(f"{numbers.next} "):
                    site.ledger.fault(f"publisher of {topic}: {told[:20]} came back for {numbers.next}")
                numbers.done()
                await site.rest(PAUSE)
            await ws.close()

    await returning(site, f"publisher of {topic}", once)


# Each row is a topic of its own.
PUBLISHERS = [
    lambda site, topic: by_request(site, topic, False, 1),
    lambda site, topic: by_request(site, topic, True, 1),
    lambda site, topic: by_request(site, topic, False, BATCH),
    lambda site, topic: by_request(site, topic, True, BATCH),
    lambda site, topic: by_line(site, topic, False),
    lambda site, topic: by_line(site, topic, True),
    lambda site, topic: by_raw(site, topic, False),
    lambda site, topic: by_raw(site, topic, True),
]


def topics():
    return [f"steady/{number}" for number in range(len(PUBLISHERS))]


async def hear_raw(site, name, topic, secure, deflate=False, query="", skips=False):
    """Reads a raw WebSocket. It has no cursors, so what is between two connections is not known."""
    witness = site.ledger.witness(name, topic, skips=skips)

    async def once():
        async with await site.open(WebSocket, secure) as ws:
            await ws.upgrade(f"/topics/{topic}?since=latest{query}", [site.bearer("reader")], deflate=deflate)
            witness.restart()
            site.counts["compressed connections"] += ws.inflated
            while True:
                witness.message(await ws.hear())
                site.counts[f"delivered: {name}"] += 1

    await reading(site, name, once)


async def hear_line(site, name, names, secure, deflate=False, options=""):
    """Reads several topics over the line protocol, and shows a fresh token every few seconds."""
    witnesses = {topic: site.ledger.witness(name, topic) for topic in names}

    async def once():
        async with await site.open(WebSocket, secure) as ws:
            await ws.upgrade("/ws", [site.bearer("reader")], ["corecast.v1"], deflate)
            fresh = time.monotonic()
            for topic, witness in witnesses.items():
                since = f"since={witness.cursor}" if witness.cursor else "since=earliest"
                await ws.say(f"SUB {topic} {since}{options}")
            while True:
                told = await ws.hear()
                head, _, body = told.partition("\n")
                words = head.split(" ")
                if words[0] == "MSG":
                    witnesses[words[1]].message(body, words[2])
                    site.counts[f"delivered: {name}"] += 1
                    if time.monotonic() - fresh > 5:
                        await ws.say(f"AUTH {site.token('reader')} id=a")
                        fresh = time.monotonic()
                elif words[0] == "GAP":
                    witnesses[words[1]].gap(gap_of(head))
                elif words[0] == "ERR":
                    raise Refused(0, told, again_in(told))

    await reading(site, name, once)


async def hear_stream(site, name, topic, secure, transport, gzip=False, forgets=False):
    """Reads a stream, which ends in order every few seconds, and comes back with its cursor."""
    witness = site.ledger.witness(name, topic, forgets=forgets)

    async def once():
        async with await site.open(secure=secure) as peer:
            since = witness.cursor or "earliest"
            headers = [site.bearer("reader"), *(["Accept-Encoding: gzip"] if gzip else [])]
            async for item in peer.stream(transport, f"/topics/{topic}?transport={transport}&since={since}", headers):
                refused = witness.item(item)
                if refused:
                    raise Refused(0, f"{refused['name']} {refused['text']}", again_in(refused["text"]))
                site.counts[f"delivered: {name}"] += 1

    await reading(site, name, once)


async def hear_polls(site, name, topic, secure, query, pause, forgets=False):
    """Polls on a connection that is kept, each time from the cursor that the last answer named."""
    witness = site.ledger.witness(name, topic, forgets=forgets)

    async def once():
        async with await site.open(secure=secure) as peer:
            while True:
                since = witness.cursor or "earliest"
                status, headers, body = await peer.ask("GET", f"/topics/{topic}?since={since}{query}", [site.bearer("reader")])
                if status not in (200, 204):
                    raise Refused(status, body.decode(), float(headers.get("retry-after", 0)))
                if status == 200:
                    for item in script(body.decode()) if "jsonp" in query else json.loads(body):
                        witness.item(item)
                        site.counts[f"delivered: {name}"] += 1
                witness.cursor = headers["corecast-cursor"]
                await asyncio.sleep(pause)

    await reading(site, name, once)


async def hear_value(site, name, topic, secure):
    """Fetches the newest message, again and again: no number ever falls."""
    witness = site.ledger.witness(name, topic, skips=True)

    async def once():
        async with await site.open(secure=secure) as peer:
            while True:
                status, headers, body = await peer.ask("GET", f"/topics/{topic}?transport=value", [site.bearer("reader")])
                if status not in (200, 404):
                    raise Refused(status, body.decode(), float(headers.get("retry-after", 0)))
                number = int(body.split(b" ")[0]) if status == 200 else 0
                if status == 200 and number != witness.at:
                    witness.message(body.decode())
                    site.counts[f"delivered: {name}"] += 1
                await asyncio.sleep(0.3)

    await reading(site, name, once)


def readers(site):
    """Gives the readers, as coroutines: every transport, plain and over TLS, each topic read by several."""
    names = topics()
    topic = lambda number: names[number % len(names)]  # noqa: E731
    row = 0
    for secure, suffix in ((False, ""), (True, " over TLS")):
        for transport in ("sse", "stream", "multipart", "forever-frame"):
            row += 1
            yield hear_stream(site, transport + suffix, topic(row), secure, transport)
        for transport in ("sse", "stream"):
            row += 1
            yield hear_stream(site, f"{transport}, gzip{suffix}", topic(row), secure, transport, gzip=True)
        yield hear_raw(site, "raw" + suffix, topic(row + 1), secure)
        yield hear_raw(site, "raw, deflate" + suffix, topic(row + 2), secure, deflate=True)
        yield hear_raw(site, "raw, conflate" + suffix, topic(row + 3), secure, query="&conflate=1", skips=True)
        yield hear_line(site, "line" + suffix, names, secure)
        yield hear_line(site, "line, deflate" + suffix, names[::2], secure, deflate=True)
        yield hear_line(site, "line, every" + suffix, names[1::2], secure, options=" every=500")
        row += 4
        yield hear_polls(site, "long-poll" + suffix, topic(row), secure, "&transport=long-poll&wait=5", 0)
        yield hear_polls(site, "poll" + suffix, topic(row + 1), secure, "", 0.4)
        yield hear_polls(site, "jsonp" + suffix, topic(row + 2), secure, "&transport=jsonp", 0.4)
        yield hear_value(site, "value" + suffix, topic(row + 3), secure)
    # What is deleted now and then.
    yield hear_stream(site, "sse of what is deleted", "deleted/0", False, "sse", forgets=True)
    yield hear_polls(site, "poll of what is deleted", "deleted/1", True, "", 0.3, forgets=True)


def publishers(site):
    """Gives the publishers, as coroutines."""
    for topic, publish in zip(topics(), PUBLISHERS):
        yield publish(site, topic)
    for number in range(2):
        yield by_request(site, f"deleted/{number}", False, 1)
