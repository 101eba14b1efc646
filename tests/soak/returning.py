"""How a client comes back: when it was told to, and otherwise after a random moment."""

import asyncio
import random
import traceback

from wire import BROKEN, Closed, Refused

# What a client that does as it should may be told in a soak: by word of an ERR or an event, by status, by close code.
WORDS = ("expired", "revoked", "overloaded", "full", "try again")
STATUSES = (401, 429, 503)


async def returning(site, name, once):
    """Does something again and again until everything stops; tells what must not have ended it."""
    while not site.stopping.is_set():
        await asyncio.sleep(await attempt(site, name, once))


async def reading(site, name, once):
    """The same for a reader, who comes back for what was published last, too: until it is ended."""
    while True:
        await asyncio.sleep(await attempt(site, name, once))


async def attempt(site, name, once):
    """Does it once, and returns when to come back, in seconds."""
    seconds = None
    try:
        await once()
        site.counts["ended in order"] += 1
    except Refused as refused:
        seconds = refused.seconds
        site.counts[f"refused: {refused.status or refused.text.split(' ')[0]}"] += 1
        if refused.status not in STATUSES and not any(word in refused.text for word in WORDS):
            site.ledger.fault(f"{name} was refused: {refused}")
    except Closed as closed:
        seconds = None
        site.counts[f"closed: {closed.code} {closed.reason[:40]}"] += 1
        if closed.code not in (1000, 1008, 1013):
            site.ledger.fault(f"{name} was closed: {closed}")
    except BROKEN as error:
        site.counts["cut off"] += 1
        site.cut_off(f"{name} was cut off: {error!r}")
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - what nobody has thought of is a fault of one side, and told
        site.ledger.fault(f"{name}: {error!r} {traceback.format_exc()[-600:]}")
    return seconds or random.uniform(0.02, 0.3)
