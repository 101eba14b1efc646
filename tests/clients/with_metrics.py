"""What monitoring is given: `/metrics` of a live engine, alerts and a dashboard that name nothing that it does not export."""

import json
import pathlib
import re
import subprocess
import tempfile
import textwrap
import urllib.request

import yaml
from certificates import Authority, Secure
from engine import DEADLINE, eventually, topic
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).parent.parent.parent
RULES = ROOT / "packaging" / "prometheus" / "corecast.rules.yml"
RULES_TEST = RULES.with_name("corecast.rules.test.yml")
DASHBOARD = ROOT / "packaging" / "grafana" / "corecast.json"
OPERATING = ROOT / "docs" / "operating.md"
DOCUMENT = ROOT / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
# What Prometheus itself adds to each target.
OF_PROMETHEUS = {"up"}
HEAD = "| family | type | labels | shard | |\n|---|---|---|---|---|\n"


def promtool(*arguments, text="", folder=None):
    """Runs promtool, which has to be content."""
    done = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done


def scraped(engine, accept=None):
    """Scrapes `/metrics` and returns content type and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{engine.admin_port}/metrics")
    if accept:
        request.add_header("Accept", accept)
    # Whatever the environment says: this is loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=DEADLINE) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def busy(engine):
    """Has every kind of thing counted: connections, messages, refusals, a round."""
    name = topic("metrics")
    with engine.line() as ws:
        ws.send(f"SUB {name} id=1")
        assert ws.recv(timeout=DEADLINE).startswith("OK 1")
        for n in range(10):
            engine.publish(name, f"{n}")
            ws.recv(timeout=DEADLINE)
    eventually(lambda: engine.total("delivered") >= 10, "messages are counted")


_exported = {}


def exported():
    """Returns all families that an engine with TLS and limits exports: name to type, help and labels."""
    if not _exported:
        with Authority() as authority, Secure(
            "--shards", "2", "--max-subscriptions-in-all", "1000", "--max-connections", "1000", pairs=[authority.issue("one", "localhost")]
        ) as engine:
            busy(engine)
            for family in openmetrics.text_string_to_metric_families(scraped(engine, OPENMETRICS)[1]):
                labels = {label for sample in family.samples for label in sample.labels if label != "le"}
                _exported[family.name] = (family.type, family.documentation, sorted(labels))
    return _exported


def family_of(sample):
    """Returns the family that a sample of this name belongs to, or none."""
    for name, (kind, _, _) in exported().items():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(kind, ("",))
        if sample in {name + end for end in ends}:
            return name
    return None


def test_it_is_what_the_formats_want(_):
    """promtool and the strict parser of OpenMetrics take what an engine with traffic says, in both formats, and it says the same in both."""
    with Authority() as authority, Secure("--shards", "2", pairs=[authority.issue("one", "localhost")]) as engine:
        busy(engine)
        kind, text = scraped(engine, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
        assert kind == OPENMETRICS and text.endswith("# EOF\n"), (kind, text[-200:])
        newer = {family.name: family for family in openmetrics.text_string_to_metric_families(text)}
        kind, text = scraped(engine)
        assert kind == PLAIN, kind
        promtool("check", "metrics", text=text)
        older = {family.name: family for family in text_string_to_metric_families(text)}
        assert set(newer) == set(older), set(newer) ^ set(older)
        for name, family in newer.items():
            assert (family.type, family.documentation) == (older[name].type, older[name].documentation), name
            shape = lambda family: sorted((sample.name, sorted(sample.labels.items())) for sample in family.samples)  # noqa: E731
            assert shape(family) == shape(older[name]), name


def test_it_agrees_with_the_statistics(engine):
    """What is counted in `/stats` is what `/metrics` says, once nothing happens any more."""
    busy(engine)

    def agree():
        total = engine.stats()["total"]
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(scraped(engine)[1])
            for sample in family.samples
        }
        wanted = {("corecast_subscriptions", ()): total["subscriptions"]}
        for name in ("accepted", "published", "owed", "delivered", "violations"):
            wanted[(f"corecast_{name}_total", ())] = total[name]
        wanted[("corecast_refused_total", (("reason", "too-large"),))] = total["refused_too_large"]
        return all(samples.get(key) == value for key, value in wanted.items())

    eventually(agree, "both say the same")


def test_every_family_is_explained(_):
    """Each family has a type and a help, and docs/metrics.md has the table of them."""
    table = HEAD
    for name, (kind, documentation, labels) in exported().items():
        assert kind in ("counter", "gauge", "histogram") and documentation.endswith("."), (name, kind, documentation)
        assert name.startswith("corecast_"), name
        total, of_shard = name.replace("corecast_shard_", "corecast_"), name.replace("corecast_", "corecast_shard_", 1)
        if name.startswith("corecast_shard_"):
            # Told with the total: the same, and of a shard.
            assert exported()[total][:2] == (kind, documentation), name
            assert labels == sorted([*exported()[total][2], "shard"]), (name, labels)
            continue
        shown = name + ("_total" if kind == "counter" else "")
        words = ", ".join(f"`{label}`" for label in labels)
        table += f"| `{shown}` | {kind} | {words} | {'yes' if of_shard in exported() else ''} | {documentation} |\n"
    text = DOCUMENT.read_text()
    assert table in text, f"the table of docs/metrics.md has to be:\n{table}"


def test_alerts_are_tried(_):
    """promtool takes the rules, and each alert is seen to be silent and to fire."""
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULES_TEST.name, folder=RULES.parent)
    alerts = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    seen = {True: set(), False: set()}
    for test in yaml.safe_load(RULES_TEST.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            seen[bool(case["exp_alerts"])].add(case["alertname"])
    assert seen[True] == seen[False] == set(alerts), (alerts, seen)


def test_alerts_say_what_to_do(_):
    """Each alert has a summary and a description, names only families that there are, and leads to a section of docs/operating.md."""
    headings = re.findall(r"^#+ (.*)$", OPERATING.read_text(), re.M)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            notes = rule["annotations"]
            assert notes["summary"] and len(notes["description"]) > 80 and rule["labels"]["severity"], rule["alert"]
            page, _, anchor = notes["runbook_url"].partition("#")
            assert page.endswith("/docs/operating.md") and anchor == rule["alert"].lower() and anchor in anchors, notes
            named_families_are_there(rule["alert"], rule["expr"])


def named_families_are_there(where, expression):
    """Holds an expression to families that a live engine exports, by their samples."""
    without_strings = re.sub(r'"[^"]*"', '""', expression)
    named = set(re.findall(r"\bcorecast_\w+", without_strings)) | (OF_PROMETHEUS & set(re.findall(r"\b\w+\b", without_strings)))
    assert named, (where, expression)
    missing = {name for name in named - OF_PROMETHEUS if family_of(name) is None}
    assert not missing, (where, missing)


def blocks(path):
    """Returns the YAML that stands in a document, block by block."""
    found = re.findall(r"^( *)```yaml\n(.*?)^ *```$", path.read_text(), re.S | re.M)
    return [yaml.safe_load(textwrap.dedent(text)) for _, text in found]


def test_scraping_is_described(_):
    """What the documents say for Prometheus, and for the receiver of a collector, are configurations that promtool takes."""
    kubernetes = ROOT / "packaging" / "kubernetes" / "README.md"
    all_blocks = [block for path in (OPERATING, kubernetes) for block in blocks(path) if isinstance(block, dict)]
    scrapes = [block for block in all_blocks if "scrape_configs" in block]
    scrapes += [block["receivers"]["prometheus"]["config"] for block in all_blocks if "receivers" in block]
    assert len(scrapes) == 3, scrapes
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / RULES.name).write_text(RULES.read_text())
        for number, scrape in enumerate(scrapes):
            file = pathlib.Path(folder) / f"{number}.yml"
            file.write_text(yaml.safe_dump(scrape))
            promtool("check", "config", "--syntax-only", file)
            for job in scrape["scrape_configs"]:
                # The rules go by it.
                assert job["job_name"].startswith("corecast") and job["authorization"]["credentials_file"], job


def panels(board):
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def test_the_dashboard_fits(_):
    """The dashboard is a model that Grafana imports; each expression is one, names only families that there are, and asks the chosen source."""
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "corecast" and board["schemaVersion"] >= 39 and board["title"], "it has a name of its own"
    assert "id" not in board and "__inputs" not in board, "it belongs to no installation"
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus"
    all_panels = list(panels(board))
    ids = [panel["id"] for panel in all_panels]
    assert len(ids) == len(set(ids)), "each panel has an id of its own"
    rows = [panel["title"] for panel in all_panels if panel["type"] == "row"]
    assert rows == ["Overview", "Messages", "Latency", "Memory", "Shards", "Limits", "Refusals", "TLS and logs"], rows
    taken, expressions = set(), []
    for panel in all_panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, (panel["title"], "lies over another")
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"], panel["title"]
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]
            expressions.append((panel["title"], target["expr"]))
    expressions += [(note["name"], note["expr"]) for note in board["annotations"]["list"] if "expr" in note]
    rules = []
    for title, expression in expressions:
        named_families_are_there(title, expression)
        plain = re.sub(r"\$__\w+", "5m", expression)
        rules.append({"record": f"panel:{len(rules)}", "expr": plain})
        used = set(re.findall(r"\$(?:\{(\w+)\}|(\w+))", plain))
        assert {one or other for one, other in used} <= set(variables), (title, used)
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "panels.yml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
        promtool("check", "rules", "--lint=none", file)
