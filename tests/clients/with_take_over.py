"""Upgrades and restarts: histories and listening sockets go to the next process, or through a file."""

import array
import contextlib
import http.client
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
import threading
import time

import websockets.exceptions
from engine import DEADLINE, Engine, curl, eventually

READERS = 12
TOPICS = 4


@contextlib.contextmanager
def place():
    """A folder, with the path where engines hand over."""
    with tempfile.TemporaryDirectory() as folder:
        yield pathlib.Path(folder)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(folder, port, *flags):
    return Engine("--take-over", str(folder / "next"), *flags, listen=f"127.0.0.1:{port}")


class Publisher:
    """Publishes numbers, each on a connection of its own, until it is told to stop; one that is refused is sent again."""

    def __init__(self, port, topic):
        self.port, self.topic = port, topic
        self.sent, self.refused, self.failures = 0, 0, []
        self.slowest = 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopping.is_set():
            begun = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
                connection.request("POST", f"/topics/{self.topic}", body=str(self.sent))
                status = connection.getresponse().status
                connection.close()
            except OSError as failure:
                # Whether it was published is not known: there must be no such thing.
                self.failures.append(repr(failure))
                return
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if status == 200:
                self.sent += 1
            else:
                assert status == 503, status
                self.refused += 1
                time.sleep(0.02)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        assert not self.failures, self.failures


class Reader:
    """Reads a topic over the line protocol, and comes back with its cursor when it is told to."""

    def __init__(self, port, topic):
        self.port, self.topic = port, topic
        self.cursor, self.came, self.gaps, self.returns, self.failures = "earliest", [], [], 0, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def connect(self):
        url = f"ws://127.0.0.1:{self.port}/ws"
        return websockets.sync.client.connect(
            url, proxy=None, compression=None, subprotocols=["corecast.v1"], open_timeout=DEADLINE
        )

    def run(self):
        while not self.stopping.is_set():
            try:
                with self.connect() as ws:
                    ws.send(f"SUB {self.topic} since={self.cursor} id=s")
                    while not self.stopping.is_set():
                        with contextlib.suppress(TimeoutError):
                            self.hear(ws.recv(timeout=0.2))
            except websockets.exceptions.ConnectionClosed as closed:
                assert closed.rcvd is not None and closed.rcvd.code == 1001, closed
                self.returns += 1
            except Exception as failure:
                self.failures.append(repr(failure))
                return

    def hear(self, line):
        words = line.split("\n", 1)
        head = words[0].split(" ")
        if head[0] == "MSG":
            self.cursor = head[2]
            self.came.append(int(words[1]))
        elif head[0] == "GAP":
            self.gaps.append(line)
        elif head[0] == "OK" and self.cursor == "earliest":
            self.cursor = head[2]

    def stop(self):
        self.stopping.set()
        self.thread.join()
        assert not self.failures, self.failures


def test_a_take_over_under_load(_):
    """Two take-overs, one after the other, while messages flow: every reader has each message once and in order, is told no gap, and no connection is refused
    or reset; what was refused meanwhile was not published. The next engine has other shards, and the admin listener; the one before ends with status 0."""
    with place() as folder, contextlib.ExitStack() as stack:
        port, admin = free_port(), free_port()
        flags = ["--listen", f"unix:{folder}/clients", "--admin", f"127.0.0.1:{admin}", "--admin", f"unix:{folder}/admin"]
        # On a busy host a reader is back only after many messages.
        flags += ["--history-messages", "100000", "--history-bytes", "4M"]
        first = stack.enter_context(start(folder, port, "--shards", "1", *flags))
        topics = [f"load/{n}" for n in range(TOPICS)]
        readers = [Reader(port, topics[n % TOPICS]) for n in range(READERS)]
        # Nobody has ever published there.
        silent = Reader(port, "silent")
        publishers = [Publisher(port, topic) for topic in topics]
        running = [first]
        for shards in ("2", "3"):
            before = [publisher.sent for publisher in publishers]
            eventually(lambda: all(p.sent > b + 30 or p.failures for p, b in zip(publishers, before)), "messages flow")
            running.append(stack.enter_context(start(folder, port, "--shards", shards, *flags)))
            old = running[-2]
            assert old.process.wait(DEADLINE + 5) == 0, old.errors
            line = old.logs("everything was handed over")
            print(line.strip(), f"slowest publish {max(p.slowest for p in publishers):.3f} s", flush=True)
            assert running[-1].logs("taken over")
            answer = curl(f"http://127.0.0.1:{admin}/readyz")
            assert answer.status == 200, answer
            answer = curl("http://localhost/stats", "--unix-socket", f"{folder}/admin")
            assert answer.status == 200 and len(answer.json()["shards"]) == int(shards), answer
            answer = curl("http://localhost/topics/by-path", "--unix-socket", f"{folder}/clients", "-d", "x")
            assert answer.status == 200, answer
        with running[-1] as last:
            before = [publisher.sent for publisher in publishers]
            eventually(lambda: all(p.sent > b + 30 or p.failures for p, b in zip(publishers, before)), "messages flow")
            for publisher in publishers:
                publisher.stop()
            last.publish("silent", "0")
            sent = {publisher.topic: publisher.sent for publisher in publishers} | {"silent": 1}
            for reader in [*readers, silent]:
                whole = list(range(sent[reader.topic]))
                eventually(lambda: reader.came[-1:] == whole[-1:] or reader.failures, "all of it comes")
                reader.stop()
                assert reader.gaps == [], (reader.topic, reader.gaps)
                assert reader.came == whole, (reader.topic, len(reader.came), len(whole))
                assert reader.returns == 2, reader.returns
            print(f"{sum(sent.values())} messages, {sum(p.refused for p in publishers)} refused and sent again", flush=True)
            assert last.stop() == 0
        assert sorted(path.name for path in folder.iterdir()) == [], "files go with the last one"


def word(letter, payload=b""):
    return letter + struct.pack("<I", len(payload)) + payload


class Peer:
    """Speaks to an engine as the next one would, as far as a test wants."""

    def __init__(self, folder):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(str(folder / "next"))

    def say(self, letter, payload=b""):
        self.socket.sendall(word(letter, payload))

    def read(self, count):
        data = b""
        while len(data) < count:
            piece, control, *_ = self.socket.recvmsg(count - len(data), 4096)
            for level, kind, fds in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors = array.array("i")
                    descriptors.frombytes(fds)
                    for descriptor in descriptors:
                        os.close(descriptor)
            if not piece:
                raise EOFError
            data += piece
        return data

    def hear(self):
        letter, length = struct.unpack("<cI", self.read(5))
        return letter, self.read(length)

    def greet(self, wish=b"t"):
        self.say(b"W", struct.pack("<I", 1) + wish)
        heard = [self.hear()]
        while heard[-1][0] != b"H":
            heard.append(self.hear())
        return heard

    def snapshot(self):
        """Reads a snapshot to its end."""
        head = self.read(24)
        assert head[:12] == b"corecast" + struct.pack("<I", 2), head
        parts = []
        while True:
            tag = self.read(1)
            if tag == b"E":
                self.read(20)
                return parts
            if tag in b"Tt":
                length, epoch, newest = struct.unpack("<HIQ", self.read(14))
                parts.append((self.read(length).decode(), epoch, newest))
            else:
                _, event, length, number, _ = struct.unpack("<BBIQQ", self.read(22))
                parts.append((number, self.read(event + length)))

    def close(self):
        self.socket.close()


def test_the_old_one_goes_on(_):
    """Whoever comes to take over and fails before the last word, wherever that is, changes nothing: the engine says why, goes on, and takes messages again
    with the next number. Readers notice nothing."""
    with place() as folder, start(folder, free_port(), "--shards", "2") as engine:
        reader = engine.line()
        reader.send("SUB t since=live id=s")
        epoch = reader.recv(timeout=DEADLINE).split(" ")[2].split("-")[0]
        numbers = iter(range(1, 1000))

        heard = [0]

        def goes_on(words):
            new = lambda: [line for line in list(engine.errors)[heard[0] :] if "this engine goes on" in line]
            said = eventually(new, f"{words} in {engine.errors}")
            assert words in said[0], (words, said)
            heard[0] = len(engine.errors)
            answers = lambda: curl(f"{engine.url}/topics/t", "-d", "x").status == 200
            eventually(answers, "messages are taken again")
            assert reader.recv(timeout=DEADLINE).startswith(f"MSG t {epoch}-{next(numbers)}")

        publisher = engine.line()
        engine.publish("large", "x" * 60_000)

        def fails(*steps):
            peer = Peer(folder)
            for step in steps:
                step(peer)
            peer.close()

        def refused_meanwhile():
            # Who comes new waits; who is there is told.
            publisher.send("PUB t id=9\nx")
            assert publisher.recv(timeout=DEADLINE).startswith("ERR 9 draining ")

        ready = lambda peer: peer.say(b"R")
        fails()
        goes_on("the other end is gone")
        fails(lambda peer: peer.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        goes_on("makes no sense")
        fails(lambda peer: peer.say(b"W", struct.pack("<I", 2) + b"t"), lambda peer: peer.hear())
        goes_on("it speaks version 2")
        fails(Peer.greet)
        goes_on("the other end is gone")
        fails(Peer.greet, lambda peer: peer.say(b"N", b"no shards here"))
        goes_on("no shards here")
        fails(Peer.greet, ready)
        goes_on("the other end is gone")
        fails(Peer.greet, ready, lambda peer: peer.read(100))
        goes_on("the other end is gone")
        fails(Peer.greet, ready, Peer.snapshot)
        goes_on("the other end is gone")
        fails(Peer.greet, ready, Peer.snapshot, lambda peer: peer.say(b"N", b"its checksum does not fit"))
        goes_on("its checksum does not fit")
        fails(Peer.greet, ready, Peer.snapshot, lambda peer: peer.say(b"R"))
        goes_on("does not say whether it has everything")
        peer = Peer(folder)
        assert [letter for letter, _ in peer.greet()].count(b"S") >= 2, "sockets come"
        ready(peer)
        parts = peer.snapshot()
        refused_meanwhile()
        assert ("t", int(epoch, 16), next(numbers) - 1) in parts, parts
        assert (1, b"x" * 60_000) in parts
        peer.say(b"A")
        assert peer.hear() == (b"Y", b"")
        peer.close()
        assert engine.process.wait(DEADLINE + 5) == 0, "after the last word it ends, whatever becomes of the other one"


def test_only_its_own_user_is_served(_):
    """Whoever is neither root nor the user of the engine is told so, even if the file lets him in, and nothing freezes for him."""
    if os.getuid() != 0:
        return  # It takes root to be somebody else.
    with place() as folder, start(folder, free_port()) as engine:
        assert (folder / "next").stat().st_mode & 0o777 == 0o600
        folder.chmod(0o755)
        (folder / "next").chmod(0o666)
        heard, says = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                with socket.socket(socket.AF_UNIX) as somebody:
                    somebody.settimeout(DEADLINE)
                    somebody.connect(str(folder / "next"))
                    os.write(says, somebody.recv(200))
            finally:
                os._exit(0)
        os.close(says)
        os.waitpid(child, 0)
        with os.fdopen(heard, "rb") as told:
            assert b"only root and the user of the engine" in told.read()
        assert engine.logs("user 65534 asked for it")
        engine.publish("t", "x")


def test_the_next_one_dies(_):
    """A next engine that is killed at any time either had not taken over, and the one before goes on; or it had, and the one before ends in order. There is
    always exactly one of the two left."""
    with place() as folder:
        port = free_port()
        engine = start(folder, port, "--shards", "2")
        for n in range(300):
            engine.publish(f"t/{n % 30}", "x" * 1000)
        for delay in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
            command = [Engine.binary, "serve", "--listen", f"127.0.0.1:{port}", "--admin", "off", "--shards", "2"]
            command += ["--take-over", str(folder / "next")]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as dying:
                time.sleep(delay)  # Not to wait for anything: it is when it dies.
                dying.kill()
                log = dying.communicate()[1]
            # What is said in the last moment may not have come.
            given = lambda: any("everything was handed over" in line for line in engine.errors)
            if " taken over" in log.replace("nothing was taken over", "") or given():
                assert engine.process.wait(DEADLINE + 5) == 0, engine.errors
                engine = start(folder, port, "--shards", "2")
                continue
            eventually(lambda: given() or curl(f"{engine.url}/topics/t", "-d", "x").status == 200, "it goes on")
        if engine.process.poll() is None:
            engine.stop()


def test_what_cannot_be_taken_over(_):
    """A next engine that cannot have what it needs says why, ends with status 2, and leaves everything as it was."""
    with place() as folder:
        port, taken = free_port(), socket.create_server(("127.0.0.1", 0))
        with start(folder, port, "--shards", "2") as engine:
            engine.publish("t", "a")

            def cannot(words, *flags):
                command = [Engine.binary, "serve", "--admin", "off", "--take-over", str(folder / "next"), *flags]
                ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
                assert ended.returncode == 2 and words in ended.stderr, (ended.returncode, ended.stderr)
                assert curl(f"{engine.url}/topics/t", "-d", "x").status == 200

            cannot("has 2 shards, and this one is to have 1", "--listen", f"127.0.0.1:{port}", "--shards", "1")
            busy = f"127.0.0.1:{taken.getsockname()[1]}"
            cannot("another socket has the port", "--listen", f"127.0.0.1:{port}", "--listen", busy, "--shards", "2")
            assert engine.logs("nothing was handed over")
        taken.close()


def snapshot(folder, *arguments):
    command = [Engine.binary, "snapshot", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_snapshot_goes_through_a_file(_):
    """The last snapshot of an engine ends it, and an engine that starts with it goes on with epochs and numbers, once. One that was saved while the engine went
    on has the same histories, and each topic begins another life with them."""
    with place() as folder:
        port, file = free_port(), str(folder / "saved")
        path = str(folder / "next")
        with start(folder, port, "--shards", "2") as engine:
            cursors = [engine.publish("t", f"m{n}", "-H", "Content-Type: text/plain") for n in range(5)]
            early = snapshot(folder, "save", str(folder / "early"), "--take-over", path)
            assert early.returncode == 0, (early.stdout, early.stderr)
            assert "saved 1 topics, 5 messages" in early.stdout, early.stdout
            assert engine.logs("a snapshot was saved")
            cursors.append(engine.publish("t", "m5"))
            ended = snapshot(folder, "save", "--stop", file, "--take-over", path)
            assert ended.returncode == 0, ended.stderr
            assert engine.process.wait(DEADLINE + 5) == 0
        assert "the last word" in snapshot(folder, "check", file).stdout
        assert "went on" in snapshot(folder, "check", str(folder / "early")).stdout

        def poll(engine, since):
            answer = curl(f"{engine.url}/topics/t?since={since}")
            return answer.headers["corecast-cursor"], answer.json()

        with start(folder, port, "--shards", "3", "--snapshot", file) as engine:
            cursor, found = poll(engine, cursors[2])
            assert [message.get("data") for message in found] == ["m3", "m4", "m5"] and cursor == cursors[5], found
            epoch, number = engine.publish("t", "m6").split("-")
            assert (epoch, int(number)) == (cursors[5].split("-")[0], int(cursors[5].split("-")[1]) + 1)
        with start(folder, port, "--snapshot", file) as engine:
            assert engine.logs("there is no snapshot")
            assert poll(engine, "earliest")[1] == [], "it was the last word once"
        for _ in range(2):
            with start(folder, port, "--snapshot", str(folder / "early")) as engine:
                _, (gap, *found) = poll(engine, cursors[2])
                assert gap["gap"]["reason"] == "epoch", gap
                assert [message["data"] for message in found] == ["m0", "m1", "m2", "m3", "m4"], found


def test_damaged_snapshots(_):
    """A snapshot that is cut short, of another version, or has a bit flipped is told by name, and the engine does not start with a part of it; a failed
    save leaves the file that was there."""
    with place() as folder:
        port, file = free_port(), folder / "saved"
        with start(folder, port) as engine:
            for n in range(50):
                engine.publish(f"t/{n % 5}", f"message {n}")
            assert snapshot(folder, "save", str(file), "--take-over", str(folder / "next")).returncode == 0
        whole = file.read_bytes()
        missing = snapshot(folder, "save", str(file), "--take-over", str(folder / "next"))
        assert missing.returncode == 1 and "nobody is there" in missing.stderr, missing.stderr
        assert file.read_bytes() == whole
        damaged = {
            "it is cut short": [whole[:cut] for cut in (0, 5, 24, 100, len(whole) - 1)],
            "no snapshot of corecast": [b"{}" + whole],
            "version 3": [whole[:8] + b"\x03" + whole[9:]],
            "behind its end": [whole + b"x"],
            "damaged": [
                whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(16, len(whole), len(whole) // 40)
            ],
        }
        for words, several in damaged.items():
            words = words.removeprefix("it ")
            for data in several:
                file.write_bytes(data)
                checked = snapshot(folder, "check", str(file))
                assert checked.returncode == 1, (words, checked.stdout)
                assert words in checked.stderr or words == "damaged" and "snapshot" in checked.stderr, checked.stderr
            command = [Engine.binary, "serve", "--listen", "127.0.0.1:0", "--admin", "off", "--snapshot", str(file)]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert ended.returncode == 2 and str(file) in ended.stderr, ended
