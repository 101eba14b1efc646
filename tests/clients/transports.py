"""How each HTTP transport is read: curl as its client, and one way to look at what came."""

import email.parser
import json
import re
import subprocess
import threading
import urllib.parse

from engine import DEADLINE, eventually

# Those that stay open, and the type of their answers.
STREAMS = {
    "sse": "text/event-stream; charset=utf-8",
    "stream": "application/x-ndjson",
    "multipart": "multipart/x-mixed-replace; boundary=corecast-part-7f3e9a51c2d84b06",
    "forever-frame": "text/html; charset=utf-8",
}
BOUNDARY = "corecast-part-7f3e9a51c2d84b06"


def events(text):
    """Reads an event stream as the WHATWG text says: a list of dictionaries of the fields of complete blocks."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name:
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
        if fields:
            found.append(fields)
    return found


def _of_sse(text):
    for event in events(text):
        if event.get("event") == "corecast-gap":
            yield {"gap": json.loads(event["data"])}
        elif event.get("event") == "corecast-refused":
            yield {"refused": json.loads(event["data"])}
        elif "data" in event:
            yield {"topic": event.get("topic"), "cursor": event.get("id"), "data": event["data"]}


def _of_multipart(text):
    parts = text.split(f"--{BOUNDARY}\r\n")
    # What stands behind the last boundary has begun only.
    for part in parts[1:-1]:
        head, _, body = part.partition("\r\n\r\n")
        fields = email.parser.Parser().parsestr(head)
        body = body.removesuffix("\r\n")
        assert len(body.encode()) == int(fields["Content-Length"]), part
        if fields["Corecast-Gap"]:
            yield {"gap": json.loads(body)}
        elif fields["Corecast-Refused"]:
            yield {"refused": json.loads(body)}
        else:
            name = urllib.parse.unquote(fields["Corecast-Topic"])
            yield {"topic": name, "cursor": fields["Corecast-Cursor"], "data": body}


def items(transport, text):
    """Returns the messages, gaps and refusals in what came over a stream, as objects, in order."""
    if transport == "sse":
        return list(_of_sse(text))
    if transport == "multipart":
        return list(_of_multipart(text))
    if transport == "forever-frame":
        return [json.loads(found) for found in re.findall(r"<script>c\((\{.*?\})\)</script>\n", text)]
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.split("\n") if line]


class Stream:
    """curl with an answer that stays open; `with` ends it."""

    def __init__(self, url, *arguments):
        command = ["curl", "--silent", "--include", "--no-buffer", "--noproxy", "*", "--max-time", "60", "--globoff"]
        self.process = subprocess.Popen([*command, *arguments, url], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.received = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while piece := self.process.stdout.read1(65536):
            self.received += piece

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join(DEADLINE)

    @property
    def head(self):
        """The head, once it has come."""
        return eventually(lambda: self.received.partition(b"\r\n\r\n")[1] and self.received, "a head").partition(
            b"\r\n\r\n"
        )[0].decode("latin-1")

    @property
    def text(self):
        """What came behind the head so far; a cut character at its end is left out."""
        return self.received.partition(b"\r\n\r\n")[2].decode(errors="ignore")

    def items(self, transport, count):
        """Waits for so many messages and gaps."""
        return eventually(
            lambda: (found := items(transport, self.text)) and len(found) >= count and found,
            f"{count} items over {transport}",
        )

    def end(self):
        """Waits for the end and returns curl's status: 0 only if the body was complete (18: cut off)."""
        status = self.process.wait(DEADLINE)
        self.reader.join(DEADLINE)
        return status
