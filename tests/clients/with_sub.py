"""`corecast sub` over each transport: what it prints is what was published, whatever breaks in between."""

import json
import signal
import time

from engine import DEADLINE, Engine, eventually, sequence, together, topic
from relay import Relay
from sub import ALL, POLLS, STREAMS, Sub

PAYLOADS = [
    b"hello",
    b"",
    b"two\nlines\n",
    b'"quotes" </script> <!-- & \\',
    "grün \u2028 \u0085 \U0001f600".encode(),
    b"\xff\x00\xfe",
    b"data: x\n\nid: 7",
    b"\r\n--corecast-part-7f3e9a51c2d84b06--\r\n",
    b"x" * 60000,
]


def test_every_transport_prints_what_was_published(engine):
    """Each transport delivers payloads of every kind byte for byte, with cursors and events where it carries them."""
    name = topic("sub-bytes")
    cursors = []
    for n, payload in enumerate(PAYLOADS):
        arguments = ["-H", "Corecast-Event: tick"] if n == 0 else []
        cursors.append(engine.publish(name, payload, *arguments))

    def check(transport):
        with Sub(engine.url, name, "--transport", transport, "--since", "earliest", "--count", str(len(PAYLOADS)), "--raw") as sub:
            expected = b"".join(payload + b"\n" for payload in PAYLOADS)
            if transport == "sse":
                # The format has one line end only.
                expected = b"".join(payload.replace(b"\r\n", b"\n") + b"\n" for payload in PAYLOADS)
            assert sub.end() == expected, sub.errors
            assert sub.errors == b"", sub.errors
        with Sub(engine.url, name, "--transport", transport, "--since", "earliest", "--count", str(len(PAYLOADS)), "--json") as sub:
            sub.end()
            found = [json.loads(line) for line in sub.lines]
            assert [one["cursor"] for one in found] == cursors
            assert found[0] == {"topic": name, "cursor": cursors[0], "event": "tick", "data": "hello"}
            assert found[5]["encoding"] == "base64"

    together(check, ALL)


def test_cuts_make_neither_hole_nor_duplicate(engine):
    """Connections that are cut again and again change nothing of what is printed, on any transport."""

    def check(transport):
        name = topic(f"sub-cuts-{transport}")
        expected = [f"message {n} " + "x" * (n * 997 % 3000) for n in range(40)]
        with Relay(engine.port) as relay, Sub(
            relay.url, name, "--transport", transport, "--since", "earliest", "--count", str(len(expected)), "--raw"
        ) as sub:
            for n, text in enumerate(expected):
                engine.publish(name, text)
                if n % 10 == 5:
                    eventually(lambda: len(sub.lines) >= n // 2, f"half of {n} over {transport}: {sub.errors}", 3 * DEADLINE)
                    relay.cut()
            assert sub.end().decode() == "".join(text + "\n" for text in expected), (transport, sub.errors)
            assert b"gap" not in sub.errors, sub.errors
            assert relay.accepted >= 3, "the test has cut nothing"

    together(check, ALL)


def test_several_topics_survive_cuts(engine):
    """Several topics on one connection, with their combined cursor: each comes complete, in order, once."""

    def check(transport):
        names = [topic(f"sub-several-{transport}-{n}") for n in range(3)] + [topic("a b%ü&c")]
        expected = {name: [f"{name} {n}" for n in range(16)] for name in names}
        count = sum(map(len, expected.values()))
        paths = {name: name.replace("%", "%25").replace(" ", "%20").replace("ü", "%C3%BC") for name in names}
        with Relay(engine.port) as relay, Sub(
            relay.url, *names, "--transport", transport, "--since", "earliest", "--count", str(count), "--json"
        ) as sub:
            for n in range(16):
                for name in names:
                    # The last topic begins late: until then there is nothing of it to come back to.
                    if name != names[2] or n >= 8:
                        engine.publish(paths[name], expected[name][n])
                if n in (4, 10):
                    eventually(lambda: len(sub.lines) >= n, f"some of {n} over {transport}: {sub.errors}", 3 * DEADLINE)
                    relay.cut()
            for n in range(8):
                engine.publish(paths[names[2]], f"late {n}")
            expected[names[2]] = expected[names[2]][8:] + [f"late {n}" for n in range(8)]
            sub.end()
            found = {name: [] for name in names}
            for line in sub.lines:
                one = json.loads(line)
                found[one["topic"]].append((one["data"], one["cursor"]))
            for name in names:
                assert [data for data, _ in found[name]] == expected[name], (transport, name, sub.errors)
                numbers = [sequence(cursor) for _, cursor in found[name]]
                assert numbers == list(range(1, 17)), (transport, numbers)
            assert b"gap" not in sub.errors, sub.errors

    together(check, ALL)


def test_what_was_published_while_nobody_was_connected_comes(_):
    """A subscription to what comes, cut before anything came, misses nothing of what is published meanwhile."""
    with Engine("--shards", "1") as own:

        def check(transport, since):
            name, other = topic(f"sub-away-{since}"), topic("sub-away-other")
            own.publish(name, "old")
            with Relay(own.port) as relay, Sub(
                relay.url, name, other, "--transport", transport, "--since", since, "--count", "4", "--raw"
            ) as sub:
                if since == "latest":
                    eventually(lambda: sub.out == b"old\n", f"the snapshot over {transport}: {sub.errors}")
                elif transport == "poll":
                    # The first was answered when the second is asked.
                    eventually(lambda: len(relay.requests) >= 2, f"two polls: {sub.errors}")
                else:
                    eventually(lambda: own.stats()["total"]["subscriptions"] == 2, f"{transport} stands: {sub.errors}")
                relay.cut()
                new = [f"new {n}" for n in range(4 - (since == "latest"))]
                for text in new:
                    own.publish(name, text)
                expected = ["old"] * (since == "latest") + new
                assert sub.end().decode().split("\n")[:-1] == expected, (transport, since, sub.errors)

        for transport in ALL:
            eventually(lambda: own.stats()["total"]["subscriptions"] == 0, "the one before is gone")
            check(transport, "live")
        together(lambda transport: check(transport, "latest"), ALL)


def test_streams_that_end_by_age(_):
    """A stream that the engine ends in order is taken up again at once, and says so."""
    with Engine("--stream-seconds", "1") as own:

        def check(transport):
            name = topic(f"sub-age-{transport}")
            with Sub(own.url, name, "--transport", transport, "--since", "earliest", "--count", "20", "--raw") as sub:
                for n in range(20):
                    own.publish(name, str(n))
                    if n in (5, 12):
                        ended = sub.errors.count(b"the stream ended")
                        eventually(lambda: sub.errors.count(b"the stream ended") > ended, "the end by age")
                assert sub.end() == b"".join(b"%d\n" % n for n in range(20)), sub.errors
                assert b"gap" not in sub.errors, sub.errors

        together(check, STREAMS)


def test_gaps_are_told(_):
    """What the history has forgotten is told on stderr, on every transport, and what is left is printed."""
    with Engine("--history-messages", "3") as own:
        name = topic("sub-gap")
        first = own.publish(name, "0")
        for n in range(1, 10):
            own.publish(name, str(n))

        def check(transport):
            with Sub(own.url, name, "--transport", transport, "--since", first, "--count", "3", "--raw") as sub:
                assert sub.end() == b"7\n8\n9\n", (transport, sub.out)
                assert sub.errors == f"gap: 6 messages of {name} are gone (expired)\n".encode(), sub.errors

        together(check, ALL)


def test_restart(_):
    """An engine that is started anew has another history: every transport says so, and goes on with it."""
    names = {transport: topic(f"sub-restart-{transport}") for transport in ALL}
    with Engine() as first:
        port = first.port
        subs = {
            transport: Sub(first.url, name, "--transport", transport, "--since", "earliest", "--count", "2", "--raw")
            for transport, name in names.items()
        }
        for name in names.values():
            first.publish(name, "before")
        for transport, sub in subs.items():
            eventually(lambda: sub.out == b"before\n", f"{transport}: {sub.errors}")
        assert first.stop() == 0
    with Engine(listen=f"127.0.0.1:{port}") as second:
        for name in names.values():
            second.publish(name, "after")
        for transport, sub in subs.items():
            with sub:
                assert sub.end() == b"before\nafter\n", (transport, sub.out, sub.errors)
                assert b"gap: " in sub.errors and b"(epoch)" in sub.errors, (transport, sub.errors)


def test_conflate_and_every(engine):
    """`--every` holds on every transport: few of many messages come, the newest among them, the others are told of."""

    def check(transport):
        name = topic(f"sub-every-{transport}")
        engine.publish(name, "first")
        with Relay(engine.port) as relay, Sub(
            relay.url, name, "--transport", transport, "--every", "400", "--raw"
        ) as sub:
            eventually(lambda: sub.out == b"first\n", f"the start over {transport}: {sub.errors}")
            if transport in POLLS:
                # The second answer was empty: what comes from now on is new.
                eventually(lambda: len(relay.requests) >= 3, f"three polls: {sub.errors}")
            start = time.monotonic()
            for n in range(30):
                engine.publish(name, str(n))
            eventually(lambda: sub.out.endswith(b"\n29\n"), f"the newest over {transport}: {sub.out} {sub.errors}")
            printed = len(sub.lines) - 1
            few = (time.monotonic() - start) / 0.4 + 2
            assert printed <= few, (transport, few, sub.out)
            # The two are read from two pipes, by two threads.
            gaps = lambda: [line for line in sub.errors.decode().split("\n")[:-1] if line.startswith("gap: ")]
            told = lambda: sum(int(gap.split()[1]) for gap in gaps())
            eventually(lambda: printed + told() == 30, f"all others are told of over {transport}: {sub.out} {sub.errors}")
            assert all("(conflated)" in line for line in sub.errors.decode().split("\n") if line), sub.errors

    together(check, ALL)


def test_requests_say_where_to_go_on(engine):
    """Each transport comes back in its own way: an event stream with Last-Event-ID, a poll with the tag it knows."""
    name = topic("sub-requests")
    cursor = engine.publish(name, "one")
    with Relay(engine.port) as relay, Sub(relay.url, name, "--transport", "sse") as sub:
        eventually(lambda: sub.out, "the first message")
        relay.cut()
        back = eventually(lambda: [one for one in relay.requests if "last-event-id" in one], "it comes back")
        assert f"last-event-id: {cursor}\r\n" in back[0] and "since=latest" in back[0], back
    with Relay(engine.port) as relay, Sub(relay.url, name, "--transport", "poll", "--every", "50") as sub:
        eventually(lambda: sub.out, "the first message")
        tagged = eventually(lambda: [one for one in relay.requests if "if-none-match" in one], "it asks again")
        assert f'if-none-match: "{cursor}"\r\n' in tagged[0] and f"since={cursor}" in tagged[0], tagged
        eventually(lambda: len(relay.requests) > 4, "more polls")
        assert relay.accepted == 1, "polls share a connection"
    with Relay(engine.port) as relay, Sub(relay.url, name, "--transport", "stream", "--conflate", "--every", "7") as sub:
        asked = eventually(lambda: [one for one in relay.requests if "transport=stream" in one], "it asks")
        assert "&conflate=1&every=7" in asked[0], asked


def test_signals_end_every_transport(engine):
    """SIGINT ends `sub` with status 0 on every transport, while it waits for messages."""

    def check(transport):
        name = topic("sub-signal")
        engine.publish(name, "hello")
        with Sub(engine.url, name, "--transport", transport, "--raw") as sub:
            eventually(lambda: sub.out == b"hello\n", transport)
            sub.process.send_signal(signal.SIGINT)
            assert sub.end() == b"hello\n"

    together(check, ALL)
