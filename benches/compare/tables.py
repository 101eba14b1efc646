"""What scripts/compare writes: the tables, and the document around them."""
import json
import textwrap

from servers import BYTES, ROOT, filled


def thousands(value):
    return f"{value:,.0f}"


def tenths(value):
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def table(servers, results, heads, columns, part):
    """One table: columns are keys with a way to write them; a server without its figures says why not."""
    lines = ["| " + " | ".join(["server"] + heads) + " |", "|" + "---|" * (len(heads) + 1)]
    for server in servers:
        figures = results[server.name]
        why = figures.get("failed") or figures.get(f"{part} failed")
        if why:
            cells = [f"could not be measured: {why}"] + [""] * (len(heads) - 1)
        else:
            cells = [column(figures) for column in columns]
        lines.append("| " + " | ".join([server.title] + [cell.replace("|", "/").replace("\n", " ") for cell in cells]) + " |")
    return "\n".join(lines)


def tables(servers, results, work):
    """All tables, as Markdown."""
    def of(key, way=tenths):
        return lambda figures: way(figures[key]) if key in figures else "-"

    def per_second(key):
        return lambda figures: thousands(1e6 / figures[key]) if figures.get(key) else "-"

    def beside(key):
        own = results.get("corecast", {}).get(key)
        return lambda figures: f"{figures[key] / own:.2f}" if own and key in figures else "-"

    def verdict(key):
        return lambda figures: "; ".join(figures.get("connect problems", []) + figures.get(key, [])) or "all"

    busy = "generator's CPU, %"
    fan_out = table(servers, results,
                    ["p50, ms", "p99, ms", "p99.9, ms", "max, ms", "CPU per delivery, µs", "deliveries per CPU second",
                     "CPU / corecast", busy, "verified"],
                    [of("open p50"), of("open p99"), of("open p99_9"), of("open max"), of("open cpu"), per_second("open cpu"),
                     beside("open cpu"), of("open busy", thousands), verdict("open problems")], "fan_out")
    window = table(servers, results,
                   ["deliveries a second", "CPU per delivery, µs", "deliveries per CPU second", "CPU / corecast", busy, "verified"],
                   [of("window rate", thousands), of("window cpu"), per_second("window cpu"), beside("window cpu"),
                    of("window busy", thousands), verdict("window problems")], "fan_out")
    memory = table(servers, results,
                   ["bytes per connection, server", "server / corecast", "bytes per connection, kernel, both ends",
                    f"whole server with {thousands(work.idle_before + work.idle)}, MiB", "stood"],
                   [of("user", thousands), beside("user"), of("kernel", thousands), of("whole"), verdict("idle problems")], "idle")
    connect = table(servers, results,
                    ["connections a second", "server CPU each, µs", "CPU / corecast", "p50, ms", "p99, ms", busy],
                    [of("connect rate", thousands), of("connect cpu"), beside("connect cpu"), of("connect p50"),
                     of("connect p99"), of("connect busy", thousands)], "idle")
    parts = [
        "## Fan-out, one message at a time",
        prose(f"""{thousands(work.subscribers)} subscribers of one topic, {BYTES}-byte messages, {work.rate} a second for
              {work.seconds} s (open loop: latency counts from when a message was due), {thousands(work.subscribers * work.rate)}
              deliveries a second. Latencies are of deliveries: the last of {thousands(work.subscribers)} comes after all others.
              The first {work.warm_up} s are verified, but not in the latencies."""),
        fan_out,
        f"## Fan-out, {work.in_flight} messages in flight",
        prose(f"""The same connections, closed loop for {work.window_seconds} s: the next message when fewer than
              {work.in_flight} are on their way. A server may send several messages to a subscriber at once. Latencies of a closed
              loop say nothing about queues, and are left out."""),
        window,
        "## Idle connections",
        prose(f"""{thousands(work.idle)} subscribed connections that came after {thousands(work.idle_before)} others: growth of the
              server's private memory, and of the kernel's objects and buffers on the whole host, divided by their number. The
              first ones, and {thousands(work.messages_before)} messages to one subscriber before them, touch what is touched once,
              such as corecast's receive buffers, which all connections share: that is in the whole server's memory (private and
              shared, without files)."""),
        memory,
        "## Connecting",
        prose(f"""The same {thousands(work.idle)}, as fast as they come, up to 512 on their way: TCP, WebSocket handshake,
              subscription, and what the protocol wants before it."""),
        connect,
    ]
    return "\n\n".join(parts) + "\n"


def prose(text, bullet=""):
    """A paragraph, filled to the width of this project's documents."""
    return textwrap.fill(" ".join(text.split()), 126, initial_indent=bullet, subsequent_indent=" " * len(bullet),
                         break_long_words=False, break_on_hyphens=False)


def what_ran(server, programs):
    """Version, command, configuration and templates of a server."""
    places = {"bin": "target/release", "folder": "FOLDER", "port": "PORT", "spare": "SPARE_PORT"}
    words = [f"{key}={value}" for key, value in server.environment.items()] + filled(server.command, places)
    lines = ["$ " + " ".join(words).replace(f"{ROOT}/", "")]
    for name, text in server.files.items():
        lines += [f"# {name}", filled(textwrap.dedent(text), places).rstrip()]
    lines += ["# corecast-load's plan, [generic]"]
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in server.generic.items()]
    about = prose(f"{server.version(programs)}. {server.note}")
    return f"### {server.title}\n\n{about}\n\n```\n" + "\n".join(lines) + "\n```"


def document(servers, results, work, run):
    """All of COMPARE.md. `run` says when, where and with what it was measured."""
    host = run["host"]
    rounds = "One round" if run["rounds"] == 1 else f"{run['rounds']} rounds, every figure the median"
    not_comparable = [
        """The work is the same, what is promised is not: corecast keeps a history and has cursors (its raw WebSocket, used here,
        does not show them), MQTT here is QoS 0, NATS is at-most-once, `ws` is a library and the server a page of code.""",
        """Frames differ: bare payloads with corecast, Nchan and `ws`; NATS, MQTT and socket.io put a head before each, and NATS
        several messages into a frame. Payloads are text, so nobody pays for binary ones in base64.""",
        f"""Publishing, one message for {thousands(work.subscribers)} deliveries, is in the server's time: POST with corecast and
        Nchan, WebSocket with the others.""",
        """Nchan never sets TCP_NODELAY on a WebSocket, all others do (strace shows it): with several messages in flight the kernel
        may hold them back until the subscriber has acknowledged earlier ones. Where the deliveries a second come near those per
        CPU second, it was not that but the CPU that held the server back.""",
        """corecast's CPU time includes what its core spins while it waits for the next event, up to 50 µs each time
        (`spin_us_total` in its `/stats`); the others sleep at once.""",
        """Memory of a garbage-collected server (NATS, Node) grows in steps: what is counted is what the process had, with garbage
        in it.""",
        "Kernel bytes are those of the whole host and of both ends; the load generator's end is the same for all.",
        """Where the load generator's CPU is near 100 %, deliveries or connections a second are its limit, not the server's; CPU
        per delivery or connection holds.""",
        """Centrifugo and uWebSockets, the nearest relatives, are not here: Debian packages neither, and npm's registry has clients
        of the one and only copies of the other by people who are not its authors.""",
    ]
    parts = [
        "# corecast beside other servers",
        prose("""Written by `scripts/compare`; not edited by hand. The same work from the same load generator (`corecast-load`,
              which verifies every delivery), one server after another in one run."""),
        prose(f"""{host['cores']} cores ({host['cpu_model']}), {host['memory_bytes'] / 2**30:.0f} GiB, {host['kernel']};
              {run['started']:%Y-%m-%d %H:%M} UTC; load average at the start {run['load_average']:.1f}: what else the machine
              had to do, and noise in the figures. {rounds}."""),
        prose(f"""Each server has CPU {run['server_cpu']} and, where it could have more, one process or thread for its work; the
              load generator has CPU {run['generator_cpu']}. On loopback the receiver's TCP runs on the sender's time, so it is in
              every server's CPU time alike. Only what stands in one table is comparable, and only within this run."""),
        tables(servers, results, work).rstrip(),
        "## Over TLS",
        prose("""What TLS 1.3 costs, by `scripts/bench tls`: the servers' CPU and memory, and in brackets how many times plain. Certificates are
              ECDSA P-256, the client is rustls with its defaults (X25519MLKEM768, AES-256-GCM); it reads when all of a round has been
              sent, so that its own decrypting costs nobody else. nginx has one worker on the server's CPU, and its figures
              include the plain engine's behind it."""),
        run["tls"],
        "## What is not comparable",
        "\n".join(prose(text, "* ") for text in not_comparable),
        "## What ran",
        *[what_ran(server, run["programs"]) for server in servers],
        prose(f"""Phases of the plans, over {thousands(work.subscribers)} connections: `connect`; `publish` with
              `rate = {float(work.rate)}` and `seconds = {float(work.seconds)}`; `publish` with `in-flight = {work.in_flight}` and
              `seconds = {float(work.window_seconds)}`. On a fresh server: `connect` and `publish` with `in-flight = 1` and
              `messages = {work.messages_before}` over one connection, with another topic; then `connect` and `hold` with
              {thousands(work.idle_before)}, and beside them `connect` and `hold` with {thousands(work.idle)}. Besides,
              `subscribe = ["all"]`, `topic-prefix = "load"`, `bytes = {BYTES}`, `cores = [{run['generator_cpu']}]`, and the
              server's address and process."""),
        "## Again",
        "```sh\nscripts/compare                     # everything, and this file anew\n"
        "scripts/compare --rounds 3          # medians of three rounds\n"
        "scripts/compare corecast ws         # some, printed only\n```",
    ]
    return "\n\n".join(parts) + "\n"
