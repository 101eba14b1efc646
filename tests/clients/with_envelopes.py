"""Server-sent events in an envelope, with curl: one event source for several topics and any event name."""

import base64
import json

from engine import Engine, curl, eventually, topic
from transports import Stream, events


def objects(stream, count):
    """Waits for so many events with data; checks that each is a plain `message`, and returns ids and objects."""
    found = eventually(
        lambda: (found := [event for event in events(stream.text) if "data" in event]) and len(found) >= count and found,
        f"{count} events",
    )
    assert all("event" not in event and "topic" not in event for event in found), found
    return [(event.get("id"), json.loads(event["data"])) for event in found]


def test_an_envelope_says_everything(engine):
    """With `enveloped` an event's data is the object of a poll, whatever the payload and the event name; its id is the cursor."""
    for switch, arguments in [("enveloped=1", []), ("enveloped=true", ["--http1.0"]), ("enveloped", [])]:
        name = topic("envelope")
        engine.publish(name, "two\r\nlines\n", "-H", "Corecast-Event: tick")
        engine.publish(name, b"\xff\xfe")
        engine.publish(name, "")
        with Stream(f"{engine.url}/topics/{name}?transport=sse&since=earliest&{switch}", *arguments) as stream:
            old = objects(stream, 3)
            engine.publish(name, "live")
            found = objects(stream, 4)
        polled = curl(f"{engine.url}/topics/{name}?since=earliest").json()
        assert found[:3] == old and found == [(one["cursor"], one) for one in polled]
        assert [(one.get("event"), one["data"]) for _, one in found[:2]] == [
            ("tick", "two\r\nlines\n"),
            (None, base64.b64encode(b"\xff\xfe").decode()),
        ]
        assert found[1][1]["encoding"] == "base64" and "encoding" not in found[3][1]


def test_envelopes_of_several_topics(engine):
    """With several topics every event names its own, and blocks with only an id carry the cursors of all."""
    a, b = topic("a"), topic("b")
    engine.publish(a, "one")
    engine.publish(b, "two")
    url = f"{engine.url}/topics?topic={a}&topic={b}&transport=sse&enveloped=1"
    with Stream(f"{url}&since=earliest") as stream:
        first = objects(stream, 2)
        assert sorted((one["topic"], one["data"]) for _, one in first) == [(a, "one"), (b, "two")]
        assert [one for one, _ in first] == [None, None]
        combined = ",".join(dict((one["topic"], one["cursor"]) for _, one in first)[name] for name in (a, b))
        eventually(lambda: {"id": combined} in events(stream.text), "the combined cursor")
    engine.publish(b, "three")
    with Stream(url, "-H", f"Last-Event-ID: {combined}") as stream:
        assert [one["data"] for _, one in objects(stream, 1)] == ["three"]


def test_gaps_have_no_envelope(_):
    """A gap is told as without an envelope: an event of its own name, so that no object has two meanings."""
    with Engine("--shards", "1", "--history-messages", "2") as engine:
        name = topic("gap")
        cursors = [engine.publish(name, str(n)) for n in range(5)]
        with Stream(f"{engine.url}/topics/{name}?transport=sse&enveloped=1&since={cursors[0]}") as stream:
            found = eventually(lambda: (found := events(stream.text)[1:]) and len(found) >= 3 and found, "a gap, and two")
        gap = json.loads(found[0]["data"])
        assert (found[0]["event"], found[0]["id"]) == ("corecast-gap", cursors[2])
        assert (gap["topic"], gap["count"], gap["reason"]) == (name, 2, "expired")
        assert [json.loads(event["data"])["data"] for event in found[1:]] == ["3", "4"]


def test_envelopes_are_asked_for(engine):
    """Without the option, or with it off, events are plain; a value that makes no sense is told."""
    name = topic("plain")
    engine.publish(name, "x")
    for query in ["", "&enveloped=0", "&enveloped=false"]:
        with Stream(f"{engine.url}/topics/{name}?transport=sse{query}") as stream:
            eventually(lambda: [event for event in events(stream.text) if event.get("data") == "x"], "a plain event")
    for value in ["2", "yes", "TRUE", "-1", "%00"]:
        answer = curl(f"{engine.url}/topics/{name}?transport=sse&enveloped={value}")
        assert answer.status == 400 and "enveloped" in answer.json()["error"], value
