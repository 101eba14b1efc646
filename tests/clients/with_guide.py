"""docs/clients.md: every block of it that can be copied and run is run, with its connections cut, so that none goes stale."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

from engine import DEADLINE, Engine, curl, eventually
from relay import Relay

ROOT = pathlib.Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "clients.md").read_text()
BLOCK = re.compile(r"(?:<!-- run: ([\w ]+) -->\n)?```(\w+)\n(.*?)^```$", re.S | re.M)
# The guide's address, and what pages need of a browser, in Node.
ADDRESS = "127.0.0.1:8080"
BROWSER = """import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';
globalThis.EventSource = EventSource;
globalThis.WebSocket = WebSocket;
globalThis.document = { body: { append: (text) => process.stdout.write(text) } };
"""


def blocks(*kinds):
    """Returns language and text of the blocks that are marked with one of these words."""
    found = [(language, text) for kind, language, text in BLOCK.findall(GUIDE) if kind in kinds]
    assert found, f"the guide has no block for {kinds}"
    return found


class Running:
    """A block that runs, with another address in it; `with` ends it."""

    def __init__(self, language, text, address):
        self.folder = tempfile.TemporaryDirectory(prefix="corecast-guide-")
        folder = pathlib.Path(self.folder.name)
        modules = folder / "node_modules"
        modules.mkdir()
        (modules / "corecast").symlink_to(ROOT / "clients" / "js")
        for name in ["ws", "eventsource", "eventsource-parser"]:
            (modules / name).symlink_to(ROOT / "tests" / "javascript" / "node_modules" / name)
        if language == "html":
            [script] = re.findall(r"<script[^>]*>\n(.*?)</script>", text, re.S)
            # Node takes no modules from the network; it is the same file.
            language, text = "js", BROWSER + script.replace(f"'http://{ADDRESS}/corecast.js'", "'corecast'")
        command = {"bash": ["bash"], "python": [sys.executable], "js": ["node", "--preserve-symlinks"]}[language]
        path = folder / {"bash": "block.sh", "python": "block.py", "js": "block.mjs"}[language]
        path.write_text(text.replace(ADDRESS, address))
        environment = os.environ | {
            "PATH": f"{pathlib.Path(Engine.binary).parent}:{os.environ['PATH']}",
            "CORECAST_URL": f"http://{address}",
            "NO_PROXY": "*",
            "PYTHONUNBUFFERED": "1",
        }
        # A group of its own: what a block starts is ended with it.
        self.process = subprocess.Popen(
            [*command, path], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.out, self.errors = b"", b""
        self.readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in ("out", "errors")]
        for reader in self.readers:
            reader.start()

    def _read(self, name):
        pipe = self.process.stdout if name == "out" else self.process.stderr
        while piece := pipe.read1(65536):
            setattr(self, name, getattr(self, name) + piece)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for reader in self.readers:
            reader.join(DEADLINE)
        self.folder.cleanup()

    def numbers(self):
        """Returns the numbers of the messages in what it printed."""
        return [int(number) for number in re.findall(rb"message-(\d+);", self.out)]


def all_at_once(work, chosen):
    """Runs `work` for every block at the same time: they wait more than they compute."""
    failures = []

    def one(language, text):
        try:
            work(language, text)
        except BaseException as failure:  # Whatever it was, the test has to know.
            failures.append(f"{failure}\nin this block:\n{text}")

    threads = [threading.Thread(target=one, args=block) for block in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, "\n\n".join(failures)


def test_every_block_is_run(_):
    """A block in a language that the tests can run says how it is run; `sh` is for what is only shown."""
    for kind, language, text in BLOCK.findall(GUIDE):
        assert language in ("sh", "bash", "python", "js", "html"), language
        assert (language == "sh") == (not kind), f"a block of {language} is marked {kind!r}:\n{text}"
    kinds = {kind for kind, _, _ in BLOCK.findall(GUIDE) if kind}
    assert kinds == {"subscribe", "javascript", "page", "page raw", "several", "publish", "table"}, kinds


def test_subscriptions_survive_cuts(_):
    """Every block that subscribes prints each message once and in order, though its connection is cut again and again."""

    def check(language, text):
        with Engine("--shards", "1") as own, Relay(own.port) as relay:
            with Running(language, text, f"127.0.0.1:{relay.port}") as block:
                sent = 0
                for _ in range(3):
                    for _ in range(7):
                        own.publish("news", f"message-{sent};")
                        sent += 1
                    eventually(
                        lambda: len(block.numbers()) >= sent or block.process.poll() is not None,
                        f"{sent} messages: {block.out[-300:]} {block.errors[-1000:]}",
                        4 * DEADLINE,
                    )
                    assert block.process.poll() is None, (block.out, block.errors)
                    relay.cut()
                assert block.numbers() == list(range(sent)), (block.out, block.errors)

    all_at_once(check, blocks("subscribe", "javascript", "page"))


def test_a_raw_websocket(_):
    """The block with a raw WebSocket shows what comes, and publishes."""
    [(language, text)] = blocks("page raw")
    # As soon as the socket is open.
    publish = "const timer = setInterval(() => { globalThis.send('message-1;'); clearInterval(timer); }, 20);"
    patient = f"process.on('uncaughtException', () => {{}});\n{publish}"
    text = text.replace("</script>", f"{patient}\n</script>")
    with Engine("--shards", "1") as own:
        own.publish("news", "message-0;")
        with Running(language, text, f"127.0.0.1:{own.port}") as block:
            eventually(lambda: block.numbers() == [0, 1], f"both messages: {block.out} {block.errors}")


def test_several_topics(_):
    """The blocks with several topics print the messages of each once and in order, though they are cut."""

    def check(language, text):
        with Engine("--shards", "2") as own, Relay(own.port) as relay:
            with Running(language, text, f"127.0.0.1:{relay.port}") as block:
                sent = 0
                for topics in [["news"], ["sport", "news"], ["news", "sport"]]:
                    for name in topics:
                        own.publish(name, f"message-{sent};")
                        sent += 1
                        eventually(
                            lambda: len(block.numbers()) >= sent, f"{sent}: {block.out} {block.errors}", 4 * DEADLINE
                        )
                    relay.cut()
                assert block.numbers() == list(range(sent)), (block.out, block.errors)

    all_at_once(check, blocks("several"))


def test_tables(_):
    """The blocks with a table tell each order that is new, changed or gone, once, through cuts, and have the orders there are."""

    def check(language, text):
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as rules:
            rules.write('[[topics]]\nmatch = "orders"\nrecord = "command"\nkey = "id"\n')
            rules.flush()
            with Engine("--shards", "1", "--config", rules.name) as own, Relay(own.port) as relay:
                own.publish("orders", '{"id":17,"qty":5,"price":{"bid":1.08}}')
                own.publish("orders", '{"id":18,"qty":0}')
                with Running(language, text, f"127.0.0.1:{relay.port}") as block:

                    def says(*expected):
                        eventually(
                            lambda: block.out.decode().split("\n")[:-1][-len(expected) :] == list(expected),
                            f"{expected}: {block.out} {block.errors}",
                            4 * DEADLINE,
                        )

                    says("new 17 5", "1 orders")
                    own.publish("orders", '{"id":17,"qty":6,"price":{"bid":1.09}}')
                    says("changed 17 6")
                    own.publish("orders", '{"id":18,"qty":2}')
                    says("new 18 2")
                    relay.cut()
                    own.publish("orders", '{"id":17,"qty":0}')
                    # JavaScript tells the end of what there was only once.
                    eventually(lambda: b"gone 17" in block.out, f"{block.out} {block.errors}", 4 * DEADLINE)
                    own.publish("orders", '{"id":18,"qty":3}')
                    says("changed 18 3")
                    assert block.out.count(b"new") == 2, block.out

    all_at_once(check, blocks("table"))


def test_publishing(_):
    """Every block that publishes ends by itself, and what it published is there."""

    def check(language, text):
        with Engine("--shards", "1") as own, Running(language, text, f"127.0.0.1:{own.port}") as block:
            assert block.process.wait(4 * DEADLINE) == 0, block.errors
            polled = curl(f"{own.url}/topics/news?since=earliest").json()
            assert [one["data"] for one in polled] == ["hello"], (text, polled)

    all_at_once(check, blocks("publish"))
