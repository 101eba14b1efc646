"""RFC 6455 to the letter, with framing of our own against `/echo`.

The cases have the numbers of the Autobahn|Testsuite (fuzzingclient, sections 1 to 7, 9 and 10), and check what it checks, strictly:
what comes back, in which order, with which close code, and that then the connection ends. Compression has tests of its own.
"""

import itertools
import os
import struct
import threading

from engine import DEADLINE, Engine
from with_raw_sockets import WebSocket

MORE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PROTOCOL, INVALID = 1002, 1007


def frame(opcode, payload=b"", fin=True, reserved=0):
    """Makes a masked frame."""
    first, length = (0x80 if fin else 0) | reserved << 4 | opcode, len(payload)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    mask = os.urandom(4)
    # As numbers, or 16 MiB would take all day.
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")


def fragments(opcode, *payloads):
    """Makes a message of these fragments."""
    last = len(payloads) - 1
    return [frame(MORE if n else opcode, payload, fin=n == last) for n, payload in enumerate(payloads)]


def cut(payload, size):
    """Cuts a payload into pieces of this size."""
    return [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]


def octets(payload):
    return cut(payload, 1)


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Peer(WebSocket):
    """A WebSocket that sends what it is told, in pieces of any size, and keeps what comes back."""

    def __init__(self, engine):
        super().__init__(engine, "/echo")
        self.buffer = bytearray()

    def send_all(self, data, chop=None):
        """Sends, in pieces of `chop` bytes; an engine that has closed need not take the rest."""
        try:
            for piece in [data] if chop is None else cut(data, chop):
                self.connection.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            pass

    def exactly(self, length):
        # Large messages come in many small receives.
        while len(self.buffer) < length:
            piece = self.connection.recv(1 << 20)
            if not piece:
                raise EOFError(f"the connection ended within a frame: {bytes(self.buffer[:40])}")
            self.buffer += piece
        taken = bytes(self.buffer[:length])
        del self.buffer[:length]
        return taken

    def events(self):
        """Receives messages and control frames up to the close frame, and checks that the connection ends behind it."""
        found, message = [], None
        while True:
            first, payload = self.frame()
            opcode, fin = first & 0x0F, first & 0x80
            assert not first & 0x70, f"reserved bits: {first:#x}"
            if opcode == CLOSE:
                self.connection.settimeout(DEADLINE)
                assert not self.buffer and not self.connection.recv(1), "nothing comes behind a close frame"
                return found, struct.unpack("!H", payload[:2])[0] if payload else None
            if opcode in (PING, PONG):
                assert fin, "a fragmented control frame"
                found.append((opcode, payload))
                continue
            assert (opcode == MORE) == (message is not None), "fragments in disorder"
            message = (opcode, payload) if message is None else (message[0], message[1] + payload)
            if fin:
                found.append(message)
                message = None


def run(engine, case, frames, expected, code=1000, chop=None):
    """Runs a case: sends the frames (and a close, if the connection is to live), and compares what comes back."""
    peer = Peer(engine)
    data = b"".join(frames) + (close() if code == 1000 else b"")
    # By itself: an engine that sends back what it gets may not read on before it is read.
    sender = threading.Thread(target=peer.send_all, args=(data, chop), daemon=True)
    sender.start()
    try:
        found, end = peer.events()
    except (EOFError, OSError) as error:
        raise AssertionError(f"case {case}: {error!r}") from None
    brief = [(opcode, payload[:40], len(payload)) for opcode, payload in found]
    assert found == expected, f"case {case}: {brief}"
    assert end == code, f"case {case}: closed with {end}"
    sender.join(DEADLINE)
    peer.connection.close()


def test_1_framing(engine):
    """Text and binary messages of every length at the borders of the length's encoding come back, however they are cut."""
    lengths = [0, 125, 126, 127, 128, 65535, 65536]
    for section, opcode, byte in [("1.1", TEXT, b"*"), ("1.2", BINARY, b"\xfe")]:
        for n, length in enumerate(lengths, 1):
            payload = byte * length
            for chop in (None, 997, 1 if length < 1000 or opcode == TEXT else 64):
                run(engine, f"{section}.{n} in {chop}", [frame(opcode, payload)], [(opcode, payload)], chop=chop)
        run(engine, f"{section}.8", [frame(opcode, byte * 65536)], [(opcode, byte * 65536)], chop=997)


def test_2_pings(engine):
    """Every ping is answered with its payload, in order; pongs are not; a ping of 126 bytes ends the connection."""
    binary = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    ten = [b"payload-%d" % n for n in range(10)]
    for case, frames, expected, code, chop in [
        ("2.1", [frame(PING)], [(PONG, b"")], 1000, None),
        ("2.2", [frame(PING, b"Hello, world!")], [(PONG, b"Hello, world!")], 1000, None),
        ("2.3", [frame(PING, binary)], [(PONG, binary)], 1000, None),
        ("2.4", [frame(PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)], 1000, None),
        ("2.5", [frame(PING, b"\xfe" * 126)], [], PROTOCOL, None),
        ("2.6", [frame(PING, b"\xfe" * 125)], [(PONG, b"\xfe" * 125)], 1000, 1),
        ("2.7", [frame(PONG)], [], 1000, None),
        ("2.8", [frame(PONG, b"unsolicited pong payload")], [], 1000, None),
        ("2.9", [frame(PONG, b"unsolicited"), frame(PING, b"ping payload")], [(PONG, b"ping payload")], 1000, None),
        ("2.10", [frame(PING, one) for one in ten], [(PONG, one) for one in ten], 1000, None),
        ("2.11", [frame(PING, one) for one in ten], [(PONG, one) for one in ten], 1000, 1),
    ]:
        run(engine, case, frames, expected, code, chop)


def test_3_reserved_bits(engine):
    """A reserved bit in any frame ends the connection; what came before it is answered, and nothing after it."""
    hello, ping = (TEXT, b"Hello, world!"), frame(PING)
    for case, frames, expected, chops in [
        ("3.1", [frame(*hello, reserved=1)], [], [None]),
        ("3.2", [frame(*hello), frame(*hello, reserved=2), ping], [hello], [None]),
        ("3.3", [frame(*hello), frame(*hello, reserved=3), ping], [hello], [19]),
        ("3.4", [frame(*hello), frame(*hello, reserved=4), ping], [hello], [1]),
        ("3.5", [frame(BINARY, b"\x00\xff", reserved=5)], [], [None, 1]),
        ("3.6", [frame(PING, b"Hello, world!", reserved=6)], [], [None, 1]),
        ("3.7", [frame(CLOSE, b"\x03\xe8", reserved=7)], [], [None, 1]),
    ]:
        for chop in chops:
            run(engine, case, frames, expected, PROTOCOL, chop)


def test_4_opcodes(engine):
    """Opcodes that nobody defined end the connection, of data frames as of control frames."""
    hello, ping = (TEXT, b"Hello, world!"), frame(PING)
    for section, first in [("4.1", 3), ("4.2", 11)]:
        for n, (before, payload, after, chop) in enumerate(
            [([], b"", [], None), ([], b"payload", [], None), ([hello], b"", [ping], None), ([hello], b"payload", [ping], None),
             ([hello], b"payload", [ping], 1)]
        ):
            frames = [frame(*one) for one in before] + [frame(first + n, payload)] + after
            run(engine, f"{section}.{n + 1}", frames, before, PROTOCOL, chop)


def test_5_fragments(engine):
    """Messages come in fragments with control frames between them; whatever else stands between them ends the connection."""
    whole, ping, pong = (TEXT, b"fragment1fragment2"), frame(PING, b"ping payload"), (PONG, b"ping payload")
    two = fragments(TEXT, b"fragment1", b"fragment2")
    lone = frame(MORE, b"non-continuation payload", fin=False)
    lone_last = frame(MORE, b"non-continuation payload")
    hello = frame(TEXT, b"Hello, world!")
    five = fragments(TEXT, *(b"fragment%d" % n for n in range(1, 6)))
    twice = [ping, *five[:2], ping, *five[2:4], ping, five[4]]
    whole_five = (TEXT, b"".join(b"fragment%d" % n for n in range(1, 6)))
    for cases, frames, expected, code in [
        ("5.1", [frame(PING, b"fragment1", fin=False), frame(MORE, b"fragment2")], [], PROTOCOL),
        ("5.2", [frame(PONG, b"fragment1", fin=False), frame(MORE, b"fragment2")], [], PROTOCOL),
        ("5.3 5.4 5.5", two, [whole], 1000),
        ("5.6 5.7 5.8", [two[0], ping, two[1]], [pong, whole], 1000),
        ("5.9 5.10 5.11", [lone_last, hello], [], PROTOCOL),
        ("5.12 5.13 5.14", [lone, hello], [], PROTOCOL),
        ("5.15", [*two, lone, hello], [whole], PROTOCOL),
        ("5.16", [lone, frame(TEXT, b"fragment1", fin=False), frame(MORE, b"fragment2")] * 2, [], PROTOCOL),
        ("5.17", [lone_last, frame(TEXT, b"fragment1", fin=False), frame(MORE, b"fragment2")] * 2, [], PROTOCOL),
        ("5.18", [frame(TEXT, b"fragment1", fin=False), frame(TEXT, b"fragment2")], [], PROTOCOL),
        ("5.19 5.20", twice, [pong, pong, pong, whole_five], 1000),
    ]:
        for chop in (None, 15, 1):
            run(engine, f"{cases} in {chop}", frames, expected, code, chop)


def sequences(*texts):
    return [bytes.fromhex(text) for text in texts]


# "κόσμε" with an omicron that takes three bytes (U+1F79).
KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")
TRUNCATED = sequences("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")
SURROGATES = sequences("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf")
# Section, sequences, and which of them are UTF-8: all, none, or those named.
UTF8 = [
    ("6.5", ["hello$world".encode(), "hello¢world".encode(), "hello€world".encode(), "hello𤭢world".encode(), KOSME], True),
    ("6.6", [KOSME[:n] for n in range(1, len(KOSME) + 1)], {2, 5, 7, 9, 11}),
    ("6.7", sequences("00", "c280", "e0a080", "f0908080"), True),
    ("6.8", sequences("f888808080", "fc8480808080"), False),
    ("6.9", sequences("7f", "dfbf", "efbfbf", "f48fbfbf"), True),
    ("6.10", sequences("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"), False),
    ("6.11", sequences("ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"), {1, 2, 3, 4}),
    ("6.12", [b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:n] for n in range(2, 7)), bytes(range(0x80, 0xC0))], False),
    ("6.13", [b"".join(bytes([byte, 0x20]) for byte in range(*bounds))
              for bounds in [(0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE)]], False),
    ("6.14", TRUNCATED, False),
    ("6.15", [b"".join(TRUNCATED)], False),
    ("6.16", sequences("fe", "ff", "fefeffff"), False),
    ("6.17", sequences("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"), False),
    ("6.18", sequences("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"), False),
    ("6.19", sequences("c080", "e08080", "f0808080", "f880808080", "fc8080808080"), False),
    ("6.20", SURROGATES, False),
    ("6.21", [high + low for high in SURROGATES[:4] for low in (SURROGATES[4], SURROGATES[6])], False),
    ("6.22", [chr(plane << 16 | low).encode() for plane in range(17) for low in (0xFFFE, 0xFFFF)], True),
    ("6.23", [chr(code).encode() for code in range(0xFFF9, 0x10000)], True),
]


def test_6_utf8(engine):
    """Text is UTF-8 and nothing else is, sequence by sequence, in one frame, in one octet at a time, and in one fragment each."""
    for section, texts, valid in UTF8:
        for n, text in enumerate(texts, 1):
            good = valid if isinstance(valid, bool) else n in valid
            expected, code = ([(TEXT, text)], 1000) if good else ([], INVALID)
            run(engine, f"{section}.{n}", [frame(TEXT, text)], expected, code)
            run(engine, f"{section}.{n} in octets", [frame(TEXT, text)], expected, code, chop=1)
            run(engine, f"{section}.{n} in fragments", fragments(TEXT, *octets(text)), expected, code)
    text = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    bad = KOSME + b"\xed\xa0\x80" + b"edited"
    for case, payloads, code in [
        ("6.1.1", [b""], 1000),
        ("6.1.2", [b"", b"", b""], 1000),
        ("6.1.3", [b"", b"middle frame payload", b""], 1000),
        ("6.2.1", [text], 1000),
        ("6.2.2", ["Hello-µ@ßöä".encode(), "üàá-UTF-8!!".encode()], 1000),
        ("6.2.3", octets(text), 1000),
        ("6.2.4", octets(KOSME), 1000),
        ("6.3.1", [bad], INVALID),
        ("6.3.2", octets(bad), INVALID),
    ]:
        run(engine, case, fragments(TEXT, *payloads), [(TEXT, b"".join(payloads))] if code == 1000 else [], code)


def test_6_4_utf8_fails_fast(engine):
    """The connection ends at the first octet that no text can hold, in the middle of a message and of a frame."""
    good, rest = KOSME, b"edited"
    for case, first, wrong in [("6.4.1", good, b"\xf4\x90\x80\x80"), ("6.4.2", good + b"\xf4", b"\x90")]:
        # The message, the frame never end: whatever is known by then is known from these octets.
        whole = frame(TEXT, first + wrong + rest)
        in_one = whole[: -len(rest)]
        start = in_one[: -len(wrong)]
        fragmented = [frame(TEXT, first, fin=False), frame(MORE, wrong, fin=False)]
        for form, pieces in [("in fragments", fragmented), ("in one frame (6.4.3, 6.4.4)", [start, in_one[len(start) :]])]:
            peer = Peer(engine)
            peer.send_all(pieces[0] + (frame(PING, b"alive") if form == "in fragments" else b""))
            if form == "in fragments":
                assert peer.frame() == (0x80 | PONG, b"alive"), f"case {case} {form}: it lives as long as the text may go on"
            peer.send_all(pieces[1])
            assert peer.events() == ([], INVALID), f"case {case} {form}"
            peer.connection.close()


def test_7_closes(engine):
    """A close frame is answered with its code and ends everything; what is wrong with it is told; nothing after it is heard."""
    hello = (TEXT, b"Hello World!")
    two = fragments(TEXT, b"fragment1", b"fragment2")
    valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    invalid = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
    rows = [
        ("7.1.1", [frame(*hello), close()], [hello], 1000),
        ("7.1.2", [close(), close()], [], 1000),
        ("7.1.3", [close(), frame(PING)], [], 1000),
        ("7.1.4", [close(), frame(*hello)], [], 1000),
        ("7.1.5", [two[0], close(), two[1]], [], 1000),
        ("7.3.1", [frame(CLOSE)], [], 1000),
        ("7.3.2", [frame(CLOSE, b"a")], [], PROTOCOL),
        ("7.3.3", [close()], [], 1000),
        ("7.3.4", [close(1000, b"Hello World!")], [], 1000),
        ("7.3.5", [close(1000, b"*" * 123)], [], 1000),
        ("7.3.6", [close(1000, b"*" * 124)], [], PROTOCOL),
        ("7.5.1", [close(1000, KOSME + b"\xed\xa0\x80" + b"edited")], [], INVALID),
        *((f"7.7.{n}", [close(code)], [], code) for n, code in enumerate(valid, 1)),
        *((f"7.9.{n}", [close(code, reason)], [], PROTOCOL)
          for n, (code, reason) in enumerate(itertools.product(invalid, (b"", b"reason")), 1)),
    ]
    for case, frames, expected, code in rows:
        for chop in (None, 1):
            peer = Peer(engine)
            peer.send_all(b"".join(frames), chop)
            assert peer.events() == (expected, code), f"case {case}"
            peer.connection.close()


def test_9_large_messages(_):
    """Messages of 64 KiB to 16 MiB come back whole: in one frame, in fragments of 64 bytes to 4 MiB, in small TCP segments."""
    kib, mib = 1 << 10, 1 << 20
    with Engine("--echo", "--shards", "1", "--max-message", "16M", "--log-bytes", "64M") as engine:
        for section, opcode in [("9.1", TEXT), ("9.2", BINARY)]:
            for n, length in enumerate([64 * kib, 256 * kib, mib, 4 * mib, 8 * mib, 16 * mib], 1):
                payload = (b"*" if opcode == TEXT else b"\xfe") * length
                run(engine, f"{section}.{n}", [frame(opcode, payload)], [(opcode, payload)])
        payload = bytes(97 + n % 26 for n in range(4099)) * 1024
        for section, opcode in [("9.3", TEXT), ("9.4", BINARY)]:
            message = payload[: 4 * mib]
            for n, size in enumerate([64, 256, kib, 4 * kib, 16 * kib, 64 * kib, 256 * kib, mib, 4 * mib], 1):
                run(engine, f"{section}.{n}", fragments(opcode, *cut(message, size)), [(opcode, message)])
        for section, opcode in [("9.5", TEXT), ("9.6", BINARY)]:
            for n, chop in enumerate([64, 128, 256, 512, kib, 2 * kib], 1):
                run(engine, f"{section}.{n}", [frame(opcode, payload[:mib])], [(opcode, payload[:mib])], chop=chop)
        for section, opcode in [("9.7", TEXT), ("9.8", BINARY)]:
            for n, length in enumerate([0, 16, 64, 256, kib, 4 * kib], 1):
                messages = [(opcode, payload[at : at + length]) for at in range(1000)]
                run(engine, f"{section}.{n}", [frame(*one) for one in messages], messages)
        # Case 7.1.6: a close and a ping right behind a message that takes a while to send back.
        message = (TEXT, payload[: 256 * kib])
        run(engine, "7.1.6", [frame(*message), close(), frame(PING)], [message])
        # Case 10.1.1: as one of the clients does that cut what they send.
        message = (TEXT, payload[: 64 * kib])
        run(engine, "10.1.1", fragments(TEXT, *cut(message[1], 1300)), [message])
        # One byte more than the largest message is refused, also in fragments.
        limit = 16 * mib
        run(engine, "too large", [frame(BINARY, b"x" * limit + b"x")], [], 1009)
        run(engine, "too large", fragments(BINARY, b"x" * limit, b"x"), [], 1009)
