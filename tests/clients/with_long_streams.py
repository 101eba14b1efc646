"""Streams that have become long (`stream-bytes`): they end in order, and a client that comes back misses nothing."""

import re
import socket

from engine import DEADLINE, Engine, eventually, topic
from transports import STREAMS, Stream, events, items

LIMIT = 64 << 10
# What a stream may have on top of the limit: a look is due every 64 KiB, and the last message may share a block of 64 KiB.
SLACK = 128 << 10


def publish(engine, name, count, size=1000, start=0):
    """Publishes numbered messages of this size and waits until all are remembered."""
    with engine.line() as ws:
        for n in range(start, start + count):
            ws.send(f"PUB {name} id=p{n}\n{n:06d}{'x' * (size - 6)}")
            assert ws.recv(timeout=DEADLINE).startswith(f"OK p{n} ")


def follow(engine, query, transport, count):
    """Follows from the beginning, coming back whenever the stream ends; returns the numbers heard, and the streams' lengths."""
    heard, lengths, since = [], [], "earliest"
    while len(heard) < count:
        with Stream(f"{engine.url}/topics{query}transport={transport}&since={since}") as stream:
            assert stream.end() == 0, transport
            text = stream.text
        found = [item for item in items(transport, text) if "data" in item]
        heard += [int(item["data"][:6]) for item in found]
        lengths.append(len(text))
        cursor = found[-1]["cursor"]
        since = cursor or next(event["id"] for event in reversed(events(text)) if "id" in event)
    return heard, lengths


def test_long_streams_end(_):
    """Every kind of stream ends with its last chunk when it is long, while messages come, and goes on behind its cursor."""
    with Engine("--shards", "2", "--stream-bytes", str(LIMIT), "--history-messages", "10000", "--history-bytes", "8M") as engine:
        # What a reader has of a compressed stream is what counts, not what was sent.
        for transport, arguments in [(transport, []) for transport in STREAMS] + [("sse", ["--compressed"])]:
            name = topic("long")
            with Stream(f"{engine.url}/topics/{name}?transport={transport}", *arguments) as stream:
                eventually(lambda: engine.stats()["total"]["subscriptions"] == 1, "it is subscribed")
                publish(engine, name, 250)
                assert stream.end() == 0, transport
                found = items(transport, stream.text)
                assert [int(item["data"][:6]) for item in found] == list(range(len(found))), transport
                assert LIMIT * 7 // 8 < len(stream.text) < LIMIT + SLACK, (transport, len(stream.text))
            since = found[-1]["cursor"]
            with Stream(f"{engine.url}/topics/{name}?transport={transport}&since={since}") as stream:
                first = stream.items(transport, 1)[0]
                assert int(first["data"][:6]) == len(found), transport


def test_replays_are_counted(_):
    """What comes from the history counts too; coming back again and again, a client gets all of it once and in order."""
    with Engine("--shards", "2", "--stream-bytes", str(LIMIT), "--history-messages", "10000", "--history-bytes", "8M") as engine:
        count = 500
        for transport in STREAMS:
            name = topic("replay")
            publish(engine, name, count)
            # The last stream would stay open: so much more comes that all of the first are behind an end.
            heard, lengths = follow(engine, f"/{name}?", transport, count - 2 * (LIMIT + SLACK) // 1000)
            assert heard == list(range(len(heard))), transport
            assert all(LIMIT * 7 // 8 < length < LIMIT + SLACK for length in lengths), (transport, lengths)


def test_several_topics_count_together(_):
    """The topics of one request are one stream: together they make it long, its cursors included."""
    with Engine("--shards", "2", "--stream-bytes", str(LIMIT), "--history-messages", "10000", "--history-bytes", "8M") as engine:
        names = [topic(f"several{n}") for n in range(8)]
        query = "&".join(f"topic={name}" for name in names)
        for transport, arguments in [("sse", []), ("stream", []), ("stream", ["--compressed"])]:
            with Stream(f"{engine.url}/topics?{query}&transport={transport}&since=live", *arguments) as stream:
                eventually(lambda: engine.stats()["total"]["subscriptions"] == 8, "all are subscribed")
                for n in range(20):
                    for name in names:
                        publish(engine, name, 1, size=800, start=n)
                assert stream.end() == 0, transport
                assert LIMIT * 7 // 8 < len(stream.text) < LIMIT + 10_000, len(stream.text)


def test_what_is_skipped_is_not_counted(_):
    """A stream with `every` is as long as what it was sent, however much its topic brings."""
    with Engine("--shards", "1", "--stream-bytes", str(LIMIT)) as engine:
        name = topic("skipped")
        url = f"{engine.url}/topics/{name}?transport=stream"
        with Stream(f"{url}&every=3600000") as paced, Stream(f"{url}&conflate") as other:
            eventually(lambda: engine.stats()["total"]["subscriptions"] == 2, "both are subscribed")
            publish(engine, name, 300)
            assert other.end() == 0, "the one that reads on gets nearly everything"
            assert paced.process.poll() is None and len(paced.items("stream", 1)) == 1


def test_no_limit(_):
    """With `stream-bytes = 0` a stream goes on."""
    with Engine("--shards", "1", "--stream-bytes", "0") as engine:
        name = topic("endless")
        with Stream(f"{engine.url}/topics/{name}?transport=stream") as stream:
            eventually(lambda: engine.stats()["total"]["subscriptions"] == 1, "it is subscribed")
            publish(engine, name, 400)
            assert len(stream.items("stream", 400)) == 400 and stream.process.poll() is None


def test_slow_readers_of_long_streams(_):
    """A reader so slow that it falls off the frame log is cut where its stream is long, and misses nothing when it comes back."""
    flags = ["--stream-bytes", "256k", "--max-message", "16k", "--log-bytes", "64k", "--history-messages", "10000", "--history-bytes", "8M"]
    with Engine("--shards", "2", *flags) as engine:
        name, count, heard, since, streams = topic("slow"), 3000, [], "live", 0
        while len(heard) < count:
            with engine.raw(receive_bytes=4096) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.sendall(f"GET /topics/{name}?transport=stream&since={since} HTTP/1.0\r\n\r\n".encode())
                streams += 1
                if since == "live":
                    eventually(lambda: engine.stats()["total"]["subscriptions"] == 1, "it is subscribed")
                    publish(engine, name, count)
                received = b""
                while piece := connection.recv(65536):
                    received += piece
                    # The last stream does not end.
                    if len(heard) + received.count(b'"data"') >= count and received.endswith(b"}\n"):
                        break
            found = re.findall(rb'"cursor":"([^"]+)","data":"(\d+)', received)
            heard += [int(number) for _, number in found]
            since = found[-1][0].decode()
        assert heard == list(range(count)) and streams > 5, streams
