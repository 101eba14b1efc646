"""What an operator does meanwhile: reloads with other rules and limits, some of them broken, and other certificates."""

import asyncio
import random
import time

from soaked import BROKEN, VARIANTS
from wire import BROKEN as BROKEN_CONNECTION
from wire import PATIENCE, Peer

# Seconds between two reloads.
PAUSE = 2.0
# The lines with which a reload ends, by what they begin with; a broken one is an error, and the only one that a soak expects.
LOADED = ("the configuration was loaded", "the configuration was read again, and is as before")
NOT_LOADED = "the configuration was not loaded"


def told(site):
    """Counts the reloads that the log tells of: those that went well, and those that did not."""
    messages = [line["message"] for line in site.lines() if isinstance(line, dict)]
    return sum(message.startswith(LOADED) for message in messages), sum(message.startswith(NOT_LOADED) for message in messages)


async def reload(site, well):
    """Reloads, by signal or by request, and sees that the engine says how it went."""
    if random.random() < 0.5:
        status, answer = await site.admin("POST", "/reload")
        site.counts["reloads by request" if well else "broken reloads by request"] += 1
        if (status == 200) != well:
            site.cut_off(f"a reload that should go {'well' if well else 'wrong'} was answered {status} {answer}")
        return
    before = told(site)
    site.hang_up()
    site.counts["reloads by signal" if well else "broken reloads by signal"] += 1
    end = time.monotonic() + PATIENCE
    while told(site) == before:
        if time.monotonic() > end:
            site.ledger.fault("a reload by signal was not told in the log")
            return
        await asyncio.sleep(0.05)
    if (told(site)[0] > before[0]) != well:
        site.ledger.fault(f"a reload by signal should go {'well' if well else 'wrong'}: {site.lines()[-1]}")


async def shown(site):
    """Returns the serial number of the certificate that the engine shows."""
    async with await Peer.open(site.engine.tls_port, site.tls) as peer:
        return int(peer.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"], 16)


async def changes(site):
    """Changes rules, limits and certificates in turn; now and then the file is broken."""
    number = 0
    while not site.stopping.is_set():
        number += 1
        try:
            if number % 4 == 0:
                site.configure(random.choice(BROKEN))
                await reload(site, False)
                site.configure(VARIANTS[number % len(VARIANTS)])
            elif number % 4 == 2:
                pair = number // 4 % 2
                site.show(pair)
                await reload(site, True)
                site.counts["certificates"] += 1
                if await shown(site) != int(site.pairs[pair].serial.removeprefix("serial="), 16):
                    site.ledger.fault("the engine does not show the certificate that it has read")
            else:
                site.configure(VARIANTS[number % len(VARIANTS)])
                await reload(site, True)
        except BROKEN_CONNECTION as error:
            site.cut_off(f"a reload, or a look at the certificate: {error!r}")
        await site.rest(PAUSE)


async def ask(site):
    """Asks what operators ask: who is there, what is there, and who is slow."""
    while not site.stopping.is_set():
        for path in ("/connections?limit=1000", "/topics?limit=1000", "/slow?limit=100", "/stats", "/readyz"):
            try:
                status, answer = await site.admin("GET", path)
            except BROKEN_CONNECTION as error:
                site.cut_off(f"{path}: {error!r}")
                continue
            if status not in (200, 503, 504):
                site.cut_off(f"{path} was answered {status} {answer}")
        await site.rest(3.0)


def all_of(site):
    """Gives the operator's work, as coroutines."""
    yield changes(site)
    yield ask(site)
