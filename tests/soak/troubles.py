"""Clients that make trouble without breaking a rule: they come and go, come all at once, do not read, or lose what allowed them to be there."""

import asyncio
import random
import time

from returning import attempt, reading, returning
from wire import BROKEN, Closed, Peer, Refused, WebSocket, again_in, gap_of

CHURN_TOPICS = 400
CHURNERS = 12
# So many come at once, and so many seconds lie between two storms.
STORM = 500
# So many of them are in the middle of connecting at a time: more would hold up the loop, and with it all other clients.
STORM_UNDER_WAY = 150
STORM_SECONDS = 8.0
SLOW = 6
# Bytes of a message of the flood, messages at once, and seconds between two bursts: more than a reader that pauses finds room for in
# the kernel, in the frame log and in the history.
FLOOD_BYTES = 16_000
FLOOD_BURST = 40
FLOOD_SECONDS = 0.5


def churn_topic():
    return f"churn/{random.randrange(CHURN_TOPICS)}"


async def leave(site, peer):
    """Ends a connection in one of the ways there are."""
    how = random.choice(("in order", "end", "reset"))
    site.counts[f"churn: {how}"] += 1
    if how == "reset":
        peer.reset()
    elif how == "end":
        peer.writer.close()
    elif isinstance(peer, WebSocket):
        await peer.close()


async def churn_line(site, secure):
    """Subscribes to many topics, publishes to some, leaves some, listens for a moment."""
    async with await site.open(WebSocket, secure) as ws:
        await ws.upgrade("/ws", [site.bearer("churn")], ["corecast.v1"], random.random() < 0.3)
        mine = [churn_topic() for _ in range(random.choice((1, 5, 20, 80)))]
        for topic in mine:
            options = random.choice(("", " since=live", " since=earliest", " since=-2", " conflate", " every=200"))
            await ws.say(f"SUB {topic}{options}")
        for topic in mine[:5]:
            await ws.say(f"PUB {topic}\n{'churn ' * random.choice((1, 10, 300))}")
        for topic in random.sample(mine, len(mine) // 2):
            await ws.say(f"UNSUB {topic}")
        site.counts["churn: subscriptions"] += len(mine)
        end = time.monotonic() + random.uniform(0, 1)
        try:
            while (left := end - time.monotonic()) > 0:
                await ws.hear(left)
        except asyncio.TimeoutError:
            pass
        await leave(site, ws)


async def churn_raw(site, secure):
    async with await site.open(WebSocket, secure) as ws:
        await ws.upgrade(f"/topics/{churn_topic()}?since=earliest", [site.bearer("churn")])
        await ws.say("raw churn")
        await ws.hear(2)
        await leave(site, ws)


async def churn_stream(site, secure):
    async with await site.open(secure=secure) as peer:
        transport = random.choice(("sse", "stream", "multipart", "forever-frame"))
        wanted = "&".join(f"topic={topic}" for topic in {churn_topic() for _ in range(random.choice((1, 3, 30)))})
        await peer.send(f"GET /topics?{wanted}&transport={transport} HTTP/1.1\r\nHost: localhost\r\n{site.bearer('churn')}\r\n\r\n".encode())
        await peer.head()
        await asyncio.sleep(random.uniform(0, 0.7))
        await leave(site, peer)


async def churn_requests(site, secure):
    """Sends requests in one go: publications, polls, deletes, a long poll that nobody waits for."""
    async with await site.open(secure=secure) as peer:
        bearer = site.bearer("churn")
        lines = [
            f"POST /topics/{churn_topic()} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\nContent-Length: 5\r\n\r\nhello",
            f"GET /topics/{churn_topic()}?since=earliest HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n\r\n",
            f"DELETE /topics/{churn_topic()} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n\r\n",
            f"GET /topics/{churn_topic()}?transport=value HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n\r\n",
        ]
        random.shuffle(lines)
        count = random.randrange(1, len(lines) + 1)
        await peer.send("".join(lines[:count]).encode())
        for _ in range(count):
            await peer.answer()
        if random.random() < 0.5:
            target = f"/topics/{churn_topic()}?transport=long-poll&since=live"
            await peer.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n\r\n".encode())
            await asyncio.sleep(random.uniform(0, 0.5))
        await leave(site, peer)


async def churn(site):
    """Comes and goes, in one way after another."""
    while not site.stopping.is_set():
        try:
            await random.choice((churn_line, churn_raw, churn_stream, churn_requests))(site, random.random() < 0.3)
        except (Refused, Closed) as told:
            site.counts["churn: sent away"] += 1
            await asyncio.sleep(getattr(told, "seconds", None) or 0)
        except BROKEN:
            site.counts["churn: broken"] += 1
        await asyncio.sleep(random.uniform(0, 0.2))


async def deletes(site):
    """Deletes topics, also those of which somebody reads."""
    while not site.stopping.is_set():
        try:
            async with await site.open() as peer:
                for topic in [churn_topic() for _ in range(5)] + [f"deleted/{random.randrange(2)}"]:
                    status, _, _ = await peer.ask("DELETE", f"/topics/{topic}", [site.bearer("operator")])
                    site.counts["deletes"] += status == 200
        except BROKEN as error:
            site.cut_off(f"deletes were cut off: {error!r}")
        await site.rest(1.0)


class Stormy:
    """One of the many that come at once: a line connection with its cursor."""

    def __init__(self, witness, turnstile):
        self.witness, self.turnstile, self.ws = witness, turnstile, None

    async def come(self, site):
        """Connects and subscribes from its cursor on; comes back when it is told to, if it is sent away."""
        while self.ws is None:
            async with self.turnstile:
                seconds = await self.try_to_come(site)
            await asyncio.sleep(seconds)

    async def try_to_come(self, site):
        """Tries once; returns for how long to stay away, in seconds, if it was sent away."""
        try:
            ws = await site.open(WebSocket)
            try:
                await ws.upgrade("/ws", [site.bearer("storm")], ["corecast.v1"])
                since = f" since={self.witness.cursor}" if self.witness.cursor else " since=live"
                await ws.say(f"SUB storm{since} id=s")
                await ws.hear()
                told = await ws.hear()
                if not told.startswith("OK s "):
                    raise Refused(0, told, again_in(told))
                self.ws = ws
                self.witness.cursor = self.witness.cursor or told.split(" ")[2]
                return 0
            finally:
                if self.ws is not ws:
                    ws.writer.transport.abort()
        except (Refused, Closed) as told:
            site.counts["storm: sent away"] += 1
            return getattr(told, "seconds", None) or again_in(str(told)) or random.uniform(0, 1)
        except BROKEN:
            site.counts["storm: broken"] += 1
            return random.uniform(0, 1)

    async def hear(self, last):
        while self.witness.at is None or self.witness.at + self.witness.missing < last:
            told = await self.ws.hear()
            head, _, body = told.partition("\n")
            if head.startswith("GAP "):
                self.witness.gap(gap_of(head))
            elif head.startswith("MSG "):
                self.witness.message(body, head.split(" ")[2])

    def go(self):
        if self.ws is not None:
            self.ws.reset() if random.random() < 0.5 else self.ws.writer.close()
            self.ws = None


async def storms(site):
    """Many come at once, are all dropped, miss some messages, and come back at once with their cursors."""
    number = 0

    async def publish(peer, many):
        nonlocal number
        for _ in range(many):
            status, _, body = await peer.ask("POST", "/topics/storm", [site.bearer("publisher")], f"{number + 1} storm".encode())
            if status != 200:
                raise Refused(status, body.decode())
            number += 1
            site.ledger.last["storm"] = number

    async def once():
        # They witness while the storm lasts; what comes later is not theirs.
        turnstile = asyncio.Semaphore(STORM_UNDER_WAY)
        all_of_them = [Stormy(site.ledger.witness("storm", "storm"), turnstile) for _ in range(STORM)]
        try:
            await asyncio.gather(*(one.come(site) for one in all_of_them))
            for coming_back in (False, True):
                if coming_back:
                    for one in all_of_them:
                        one.go()
                async with await site.open() as peer:
                    await publish(peer, 3)
                if coming_back:
                    await asyncio.gather(*(one.come(site) for one in all_of_them))
                await asyncio.gather(*(one.hear(number) for one in all_of_them))
                site.counts["delivered: storm"] += 3 * STORM
            site.counts["storms"] += 1
        finally:
            for one in all_of_them:
                one.go()
                site.ledger.witnesses.remove(one.witness)

    while not site.stopping.is_set():
        await attempt(site, "storm", once)
        await site.rest(STORM_SECONDS)


async def flood(site):
    """Publishes large messages in bursts, pipelined."""
    number = 0

    async def once():
        nonlocal number
        async with await site.open() as peer:
            while not site.stopping.is_set():
                bearer = site.bearer("publisher")
                body = [f"{number + n + 1} ".ljust(FLOOD_BYTES, "f") for n in range(FLOOD_BURST)]
                head = f"POST /topics/flood HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\nContent-Length: {FLOOD_BYTES}\r\n\r\n"
                await peer.send("".join(head + text for text in body).encode())
                for _ in range(FLOOD_BURST):
                    status, _, _ = await peer.answer()
                    if status != 200:
                        # What is behind it may be published or not.
                        site.ledger.doubtful["flood"].add(number + 1)
                        site.counts["flood: refused"] += 1
                    number += 1
                    site.ledger.last["flood"] = number
                site.counts["messages published"] += FLOOD_BURST
                await site.rest(FLOOD_SECONDS)

    await returning(site, "flood", once)


async def slow(site, number):
    """Reads the flood, stops reading for some seconds, and then reads again or is killed; its witness holds all the same."""
    forms = ("line", "sse", "raw")
    form = forms[number % len(forms)]
    name = f"slow {form}{' over TLS' if number % 2 else ''}"
    witness = site.ledger.witness(name, "flood")

    def hear(told):
        head, _, body = told.partition("\n")
        if form == "raw":
            witness.message(told)
        elif head.startswith("MSG "):
            witness.message(body, head.split(" ")[2])
        elif head.startswith("GAP "):
            witness.gap(gap_of(head))
        elif head.startswith("ERR "):
            raise Refused(0, told, again_in(told))

    async def pause(peer, began):
        """Stops reading once, and is killed now and then."""
        if witness.paused or time.monotonic() - began < 1 or site.stopping.is_set():
            return
        witness.paused = True
        peer.writer.transport.pause_reading()
        site.counts["slow: pauses"] += 1
        await site.rest(random.uniform(2, 5))
        if random.random() < 0.3:
            site.counts["slow: killed"] += 1
            peer.reset()
            raise ConnectionResetError("killed")
        peer.writer.transport.resume_reading()

    async def once():
        witness.paused = False
        began = time.monotonic()
        small = {"secure": number % 2 == 1, "receive_bytes": 8192}
        try:
            if form == "sse":
                async with await site.open(**small) as peer:
                    since = witness.cursor or "live"
                    async for item in peer.stream("sse", f"/topics/flood?transport=sse&since={since}", [site.bearer("slow")]):
                        refused = witness.item(item)
                        if refused:
                            raise Refused(0, f"{refused['name']} {refused['text']}", again_in(refused["text"]))
                        site.counts["delivered: slow"] += 1
                        await pause(peer, began)
                return
            async with await site.open(WebSocket, **small) as ws:
                if form == "raw":
                    witness.restart()
                    await ws.upgrade("/topics/flood?since=latest", [site.bearer("slow")])
                else:
                    await ws.upgrade("/ws", [site.bearer("slow")], ["corecast.v1"])
                    await ws.say(f"SUB flood since={witness.cursor or 'live'}")
                while True:
                    hear(await ws.hear())
                    site.counts["delivered: slow"] += 1
                    await pause(ws, began)
        except BROKEN:
            # It was killed, or did not read for so long that there was nothing else to do with it.
            site.counts["slow: cut off"] += 1

    await reading(site, name, once)


async def expiring(site, form):
    """Stays until its permission ends, or is taken back, and has to be told so in time."""
    number = 0
    while not site.stopping.is_set():
        number += 1
        subject = f"{form}-{number}-{random.getrandbits(32):x}"
        revoked = number % 2 == 0
        header = f"Authorization: Bearer {site.token(subject, seconds=8 if revoked else 2)}"
        kind = Peer if form == "sse" else WebSocket
        try:
            async with await site.open(kind, random.random() < 0.5) as peer:
                if form == "sse":
                    opened = asyncio.Event()
                    told = asyncio.ensure_future(end_of_stream(peer, header, opened))
                    begun = asyncio.ensure_future(opened.wait())
                    await asyncio.wait([told, begun], return_when=asyncio.FIRST_COMPLETED)
                    begun.cancel()
                else:
                    target = "/ws" if form == "line" else "/topics/expiring"
                    await peer.upgrade(target, [header], ["corecast.v1"] if form == "line" else [])
                    if form == "line":
                        await peer.say("SUB expiring")
                    told = asyncio.ensure_future(end_of_socket(peer))
                if revoked:
                    await asyncio.sleep(0.3)
                    if told.done():
                        # It was sent away before: it raises what it was told.
                        await told
                    status, answer = await site.admin("POST", "/revoke", f'{{"sub":"{subject}"}}'.encode())
                    if status != 200 or answer.get("ended", 0) < 1:
                        site.cut_off(f"revoking {subject}: {status} {answer}")
                why = await asyncio.wait_for(told, 10)
                site.counts["revoked" if revoked else "expired"] += 1
                if "expired" not in why and "revoked" not in why:
                    site.cut_off(f"{subject} should have been told of the end of its permission: {why!r}")
        except (Refused, Closed) as told:
            site.counts["expiring: sent away"] += 1
            await asyncio.sleep(getattr(told, "seconds", None) or 0.5)
        except BROKEN as error:
            site.cut_off(f"{subject} was not told of the end of its permission: {error!r}")
        await site.rest(0.5)


async def end_of_stream(peer, header, opened):
    async for item in peer.stream("sse", "/topics/expiring?transport=sse", [header], opened):
        if "refused" in item:
            return f"{item['refused']['name']} {item['refused']['text']}"
    return "an end without a word"


async def end_of_socket(ws):
    try:
        while True:
            await ws.hear()
    except Closed as closed:
        return closed.reason


def all_of(site):
    """Gives them, as coroutines."""
    for _ in range(CHURNERS):
        yield churn(site)
    yield deletes(site)
    yield storms(site)
    yield flood(site)
    for form in ("line", "raw", "sse"):
        yield expiring(site, form)
