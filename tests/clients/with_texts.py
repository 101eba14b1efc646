"""What is written for those who choose, and for those who begin: links, files, settings, figures and rows of the ledger that are named are there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent.parent
SKIPPED = {"target", "node_modules", "corpus", "artifacts", "__pycache__"}
# Held word by word; of all other documents only the links are.
TEXTS = ["CONTRIBUTING.md", "docs/limits.md", "docs/compare.md", *sorted(
    str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "decisions").glob("*.md")
)]
# Where a path may begin that is written shorter: as seen from the folder that a sentence is about.
BASES = ["", "engine/src", "engine/src/shard", "engine/src/config"]
SOURCES = {".rs", ".py", ".js", ".toml"}
# Words that are of others: of the wire, and of the kernel.
WORDS = {"permessage-deflate", "epoch-number", "sched_yield", "TCP_DEFER_ACCEPT"}
# How a record names a row of the ledger: by its day, and by words of its commit or command.
ROW = re.compile(r"\(\.\./\.\./benches/LOG\.md\), (\d{4}-\d\d-\d\d), `([^`]+)`")


def files():
    """Returns every file of the project, as its path from the root."""

    def walk(folder):
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name in SKIPPED:
                continue
            if path.is_dir():
                yield from walk(path)
            else:
                yield path

    return [path.relative_to(ROOT) for path in walk(ROOT)]


FILES = files()


def read(name):
    return (ROOT / name).read_text()


def without_blocks(text):
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.S | re.M)


def spans(text):
    """Returns what stands between backticks, but for the names of rows of the ledger."""
    return re.findall(r"`([^`]+)`", ROW.sub("", re.sub(r"\s+", " ", without_blocks(text))))


def rows(text, head):
    """Returns the rows of the table with this head, each as its fields."""
    lines = text[text.index(head):].splitlines()[2:]
    fields = []
    for line in lines:
        if not line.startswith("|"):
            break
        fields.append([field.strip() for field in line.strip("|").split(" | ")])
    assert fields, f"the table {head} has rows"
    return fields


def anchors(text):
    """Returns what the headings of a document are called in links to them, as GitHub does."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", without_blocks(text), re.M):
        heading = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.append(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return {name if found[:n].count(name) == 0 else f"{name}-{found[:n].count(name)}" for n, name in enumerate(found)}


def test_links_resolve(_):
    """Every link of every document leads to a file that is there, and to a heading that it has."""
    wrong, count = [], 0
    for path in (path for path in FILES if path.suffix == ".md"):
        text = re.sub(r"`[^`]*`", "", without_blocks(read(path)))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            name, _, anchor = target.partition("#")
            other = (ROOT / path.parent / name).resolve() if name else ROOT / path
            if not other.exists():
                wrong.append(f"{path}: {target}: no such file")
            elif anchor and other.suffix == ".md" and anchor not in anchors(other.read_text()):
                wrong.append(f"{path}: {target}: no such heading")
    assert not wrong, "\n".join(wrong)
    assert count > 150, f"the links were found: {count}"


def test_named_files_are_there(_):
    """Every file and folder that these texts name is there, by its path or, without one, somewhere."""
    names = {path.name for path in FILES}
    folders = {parent for path in FILES for parent in path.parents}
    wrong, count = [], 0
    for document in TEXTS:
        for span in spans(read(document)):
            word = span.split(" ")[0]
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word):
                continue
            is_source = pathlib.PurePath(word).suffix in SOURCES | {".md"}
            begins = word.split("/")[0]
            is_path = "/" in word and (is_source or any(pathlib.PurePath(base, begins) in folders for base in BASES))
            if not is_path and not is_source:
                continue
            count += 1
            there = any((ROOT / base / word).exists() for base in BASES) if "/" in word else word in names
            if not there:
                wrong.append(f"{document}: `{span}`")
    assert not wrong, "named, and not there:\n" + "\n".join(wrong)
    assert count > 80, f"names were found: {count}"


def test_named_things_are_in_the_sources(_):
    """Every function, test, constant and counter that these texts name stands in the sources."""
    words = set()
    for path in (path for path in FILES if path.suffix in SOURCES and path.name != "with_texts.py"):
        words.update(re.findall(r"\w+", read(path)))
    wrong, count = [], 0
    for document in TEXTS:
        for span in spans(read(document)):
            if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+|[A-Z0-9]+(_[A-Z0-9]+)+|\w+(::\w+)+", span):
                count += 1
                wrong.extend(f"{document}: `{span}`" for word in span.split("::") if word not in words | WORDS)
    assert not wrong, "named, and nowhere in the sources:\n" + "\n".join(wrong)
    assert count > 20, f"names were found: {count}"


def test_named_settings_and_defaults(_):
    """Every setting that these texts name is one, and limits have the defaults that the configuration has."""
    settings = {
        name: default.strip("`")
        for name, default in re.findall(r"^\| `([a-z-]+)` \| `CORECAST_\w+` \| (\S.*?) \|", read("docs/configuration.md"), re.M)
    }
    assert len(settings) > 60, settings
    refusals = {fields[0].strip("`") for fields in rows(read("docs/protocol.md"), "| name | text | when | what to do | HTTP |")}
    known = settings.keys() | refusals | WORDS
    wrong = [
        f"{document}: `{span}`"
        for document in TEXTS
        for span in spans(read(document))
        if re.fullmatch(r"[a-z]+(-[a-z]+)+", span) and span not in known
    ]
    for what, setting, default, *_ in rows(read("docs/limits.md"), "| what | setting | default | most | at it |"):
        if setting != "-" and settings.get(setting.strip("`")) != default.strip("`"):
            wrong.append(f"docs/limits.md: {what}: {setting} is {default}, and in docs/configuration.md {settings.get(setting.strip('`'))}")
    assert not wrong, "\n".join(wrong)


# What is fixed: the beginning of its row in docs/limits.md, the number there, and where the sources have it.
FIXED = [
    ("name of a topic", "255 bytes", "protocol/src/topic.rs", "TOPIC_BYTES_MAX: usize = 255"),
    ("name of an event", "64 characters", "engine/src/shard/session/request/words.rs", "EVENT_BYTES_MAX: usize = 64"),
    ("head of a request", "16 KiB", "engine/src/shard/limits.rs", "head_bytes_max: 16 << 10"),
    ("head of a request", "64 lines", "protocol/src/http/head.rs", "HEADERS_MAX: usize = 64"),
    ("token or API key", "8,192", "engine/src/authority/token.rs", "TOKEN_BYTES_MAX: usize = 8 << 10"),
    ("patterns of a grant", "64 each", "engine/src/grant.rs", "PATTERNS_MAX: usize = 64"),
    ("payload of a message", "16 MiB", "engine/src/config/table.rs", "MESSAGE_BYTES_MAX: u64 = 16 << 20"),
    ("memory of all shards", "1 TiB", "engine/src/shard/memory/pool.rs", "SHARD_BYTES_MAX: u64 = (1 << 40) - 1"),
    ("shards", "256", "engine/src/mesh/shards.rs", "MAX: usize = 256"),
    ("connections of a shard", "1,048,576", "engine/src/io/ring.rs", "SLOTS_MAX: u32 = 1 << 20"),
    ("connections of an address", "16,777,215", "engine/src/mesh/census.rs", "COUNT_BITS: u32 = 24"),
    ("topics of a request", "64", "engine/src/shard/session/reading.rs", "TOPICS_MAX: usize = 64"),
    ("wait of a long poll", "120 s", "engine/src/shard/session/poll.rs", "WAIT_S_MAX: u32 = 120"),
    ("cursors remembered of a producer", "64", "engine/src/shard/topic/producers.rs", "CURSORS_MAX: usize = 64"),
    ("rules for topics", "1,000", "engine/src/shard/rules.rs", "RULES_MAX: usize = 1000"),
    ("rows of API keys", "4,096", "engine/src/authority/book.rs", "ROWS_MAX: usize = 4096"),
    ("revocations", "65,536", "engine/src/authority/revoked.rs", "ENTRIES_MAX: usize = 65_536"),
    ("verdicts", "65,536", "engine/src/shard/grant/trust.rs", "VERDICTS_MAX: usize = 64 << 10"),
    ("questions that wait", "4,096", "engine/src/authority/hook.rs", "WAITING_MAX: usize = 4096"),
    ("TLS handshakes", "4,096", "engine/src/edge/handshakes.rs", "UNDER_WAY_MAX: usize = 4096"),
    ("addresses and subjects that are counted", "262,144", "engine/src/mesh/census.rs", "COUNT_LINES: usize = 1 << 15"),
    ("public listeners", "64", "engine/src/config.rs", "LISTENERS_MAX: usize = 64"),
    ("tokens of operators", "64", "engine/src/admin/guard.rs", "TOKENS_MAX: usize = 64"),
    ("peers of the admin listener", "64", "engine/src/admin.rs", "PEERS_MAX: usize = 64"),
    ("rows of a list", "1,000", "engine/src/shard/errand.rs", "ROWS_MAX: usize = 1000"),
]


def test_fixed_limits(_):
    """Limits that no setting changes are those of the sources."""
    table = rows(read("docs/limits.md"), "| what | setting | default | most | at it |")
    for what, number, file, constant in FIXED:
        [row] = [fields for fields in table if fields[0].startswith(what)]
        assert any(number in field for field in row[2:4]), (what, number, row)
        assert constant in read(file), f"docs/limits.md says {number} of {what}, and {file} does not say {constant}"
    fixed = {row[0] for row in table if row[1] == "-"}
    unheld = [what for what in fixed if not any(what.startswith(begin) for begin, *_ in FIXED)]
    assert unheld == ["unanswered `PUB` with `id` of a connection"], f"nothing holds {unheld}"


PARTS = ["Context", "Decided", "Rejected", "Measured", "What would change our mind"]


def test_decisions(_):
    """Records have all their parts, are listed, and name rows of the ledger that are there, or say that there is none."""
    folder = ROOT / "docs" / "decisions"
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    listed = re.findall(r"^\| (\d{4}) \| \[(.*)\]\((.*)\) \| .+ \|$", (folder / "README.md").read_text(), re.M)
    assert [name for _, _, name in listed] == [path.name for path in records], "docs/decisions/README.md lists all of them"
    ledger = [line.strip("|").split(" | ") for line in read("benches/LOG.md").splitlines() if line.startswith("| 20")]
    named = 0
    for number, (path, (listed_as, title, _)) in enumerate(zip(records, listed), 1):
        text = path.read_text()
        assert text.startswith(f"# {number}. {title}\n") and path.name.startswith(f"{number:04}-") and listed_as == f"{number:04}", path.name
        assert re.findall(r"^\*\*(.*?)\.\*\* ", text, re.M) == PARTS, f"{path.name} has these parts: {PARTS}"
        [measured] = re.findall(r"^\*\*Measured\.\*\* (.*?)\n\n", text, re.M | re.S)
        rows_named = ROW.findall(re.sub(r"\s+", " ", text))
        for date, words in rows_named:
            there = any(row[0].strip() == date and (words in row[1] or words in row[3]) for row in ledger)
            assert there, f"{path.name}: no row of {date} has {words} as its commit or in its command"
        assert rows_named or measured.startswith("No row of the LOG"), f"{path.name} says what decided"
        named += len(rows_named)
    assert named > 25, f"the rows were found: {named}"


def test_what_is_not_there_is_not_there(_):
    """tokio is not in the lock file: a decision says so."""
    assert "not in `Cargo.lock`" in read("docs/decisions/0002-own-ring-driver.md")
    assert '\nname = "tokio"\n' not in read("Cargo.lock")


def test_the_walk_is_whole(_):
    """CONTRIBUTING.md names every file that knows the smallest session, and no other: so whoever adds one finds all places."""
    walk = {fields[0].strip("`") for fields in rows(read("CONTRIBUTING.md"), "| file | what is added |")}
    engine = [path for path in FILES if path.parts[0] == "engine" and path.suffix in {".rs", ".toml"}]
    know = {str(path) for path in engine if path.stem == "telnet" or "telnet" in read(path).lower()}
    assert walk == know, f"only in CONTRIBUTING.md: {walk - know}; only in the sources: {know - walk}"


def test_each_server_is_treated_alike(_):
    """Each server of docs/compare.md has a paragraph that says when to choose it, and the place where that was looked up, with a version."""
    text = read("docs/compare.md")
    servers = [fields[0].strip("*") for fields in rows(text, "| | what it is | licence |")]
    others = [name for name in servers if name != "corecast"]
    assert len(others) >= 9, others
    missing = [name for name in servers if f"\n**{name}**, when " not in text]
    assert not missing, f"no paragraph for {missing}"
    looked = [fields[0] for fields in rows(text, "| | version | where |")]
    assert looked == others, (looked, others)


def test_a_newcomer_finds_them(_):
    """README.md links what is written for those who choose and for those who begin."""
    text = read("README.md")
    for name in ["CONTRIBUTING.md", "docs/limits.md", "docs/compare.md", "docs/decisions/README.md"]:
        assert f"]({name})" in text, f"README.md does not link {name}"
