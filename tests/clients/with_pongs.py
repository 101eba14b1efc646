"""Pongs of an engine that has much else to say: every ping is answered, in order, before the data that waits."""

import struct
import threading

from engine import DEADLINE, Engine, eventually, topic
from with_conformance import PING, PONG, TEXT, Peer, frame
from with_raw_sockets import WebSocket


def publish(engine, name, count):
    with engine.line() as ws:
        for n in range(count):
            ws.send(f"PUB {name} id=p{n}\n{n:06d}{'x' * 994}")
            assert ws.recv(timeout=DEADLINE).startswith(f"OK p{n} ")


def ping(engine, slow):
    """Sends three pings and waits until the engine has them."""
    before = engine.stats()["total"]["bytes_received"]
    pings = [b"one", b"", b"three" * 25]
    for payload in pings:
        slow.send(0x80 | PING, payload)
    sent = sum(6 + len(payload) for payload in pings)
    eventually(lambda: engine.stats()["total"]["bytes_received"] >= before + sent, "the pings have come")
    return pings


def read(slow, count):
    """Reads so many messages; returns their numbers, the pongs, and how many messages came before each pong."""
    numbers, pongs, places = [], [], []
    while len(numbers) < count:
        first, payload = slow.frame()
        if first == 0x80 | PONG:
            pongs.append(payload)
            places.append(len(numbers))
        else:
            payload = payload.split(b"\n", 1)[-1]
            assert first == 0x80 | TEXT and len(payload) == 1000, (first, payload[:40])
            numbers.append(int(payload[:6]))
    return numbers, pongs, places


def test_pongs_overtake_live_messages(_):
    """A reader that is half a megabyte behind its topic gets its pongs behind what the kernel has already, and then the rest."""
    with Engine("--shards", "1", "--log-bytes", "4M") as engine:
        name, count = topic("behind"), 500
        slow = WebSocket(engine, f"/topics/{name}?since=live", receive_bytes=4096)
        eventually(lambda: engine.stats()["total"]["subscriptions"] == 1, "it is subscribed")
        publish(engine, name, count)
        assert engine.stats()["total"]["sends_short"] > 0, "the kernel took only a part"
        pings = ping(engine, slow)
        numbers, pongs, places = read(slow, count)
        assert numbers == list(range(count)) and pongs == pings, pongs
        assert places == [places[0]] * 3 and places[0] < count - 100, places
        slow.connection.close()


def test_pongs_overtake_a_replay(_):
    """A reader that is sent history, and more than it reads of it, gets its pongs between two messages, before the rest."""
    with Engine("--shards", "1", "--history-messages", "1000", "--history-bytes", "4M") as engine:
        name, count = topic("history"), 500
        publish(engine, name, count)
        slow = WebSocket(engine, receive_bytes=4096)
        assert slow.frame()[1].startswith(b"HI ")
        slow.send(0x80 | TEXT, f"SUB {name} since=earliest".encode())
        eventually(lambda: engine.stats()["total"]["sends_short"] > 0, "the kernel took only a part")
        pings = ping(engine, slow)
        numbers, pongs, places = read(slow, count)
        assert numbers == list(range(count)) and pongs == pings, pongs
        assert places == [places[0]] * 3 and places[0] < count - 100, places
        slow.connection.close()


def test_a_flood_of_pings(_):
    """A peer that pings and does not read is not read any more; what it costs is bounded, and once it reads it gets every pong."""
    with Engine("--shards", "1", "--echo") as engine:
        count = 60_000
        peer = Peer(engine)
        payloads = [struct.pack("!I", n) * 25 for n in range(count)]
        frames = b"".join(frame(PING, payload) for payload in payloads)
        sender = threading.Thread(target=peer.send_all, args=(frames,), daemon=True)
        sender.start()

        def total():
            return engine.stats()["total"]

        eventually(lambda: total()["pool_private_bytes"] > 0 and total()["pool_inbound_bytes"] > 0, "it reads no more")
        with engine.ws("/echo") as other:
            # Others are served meanwhile; an engine that read on would have done so by then.
            for n in range(500):
                other.send(str(n))
                assert other.recv(timeout=DEADLINE) == str(n)
        held = eventually(lambda: (now := total())["bytes_sent"] > 1000 and now, "statistics")
        assert sender.is_alive() and held["bytes_received"] < len(frames) // 2, held
        # The queue has 64 KiB and one more pong, in a block of twice that; what had come by then waits, and is bounded too.
        assert held["pool_private_bytes"] <= 256 << 10 and held["pool_inbound_bytes"] <= 4 << 20, held
        for n, payload in enumerate(payloads):
            assert peer.frame() == (0x80 | PONG, payload), n
        sender.join(DEADLINE)
        assert not sender.is_alive() and engine.stats()["total"]["violations"] == 0
        peer.connection.close()
