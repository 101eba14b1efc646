"""The servers that scripts/compare measures: how each is installed, started and spoken to."""
import json
import pathlib
import subprocess
import time

COMPARE = pathlib.Path(__file__).resolve().parent
ROOT = COMPARE.parent.parent
BYTES, TOPIC = 512, "load/all"


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT).stdout.strip()


def debian(package):
    """A Debian package's version, or nothing if it is not there."""
    asked = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", package], capture_output=True, text=True)
    return asked.stdout.partition(" ")[2] if asked.stdout.startswith("installed ") else ""


def npm(package):
    lock = json.loads((COMPARE / "package-lock.json").read_text())
    return f"{package} {lock['packages'][f'node_modules/{package}']['version']} on Node {output('node', '--version')[1:]}"


def filled(value, places):
    """Fills places in texts, wherever they stand; braces of others are left alone."""
    if isinstance(value, list):
        return [filled(each, places) for each in value]
    for name, text in places.items():
        value = value.replace("{" + name + "}", str(text))
    return value


class Server:
    """One kind of server: how it is installed, started and spoken to. `generic` is a table of corecast-load's plans, see
    loadgen/README.md; `files` are written to a folder of its own; {port}, {spare} (another free port), {run} (a letter of
    the load generator's run) and {folder} are filled in."""
    packages, needs_npm, files, environment, note = (), False, {}, {}, ""
    publishes_with_post = False

    def version(self, programs):
        return ", ".join(f"{package} {debian(package)} (Debian)" for package in self.packages)

    def process(self, pid):
        """The process that does the work."""
        return pid


class Corecast(Server):
    name, title = "corecast", "corecast"
    command = ["{bin}/corecast", "serve", "--listen", "127.0.0.1:{port}", "--admin", "off", "--shards", "1"]
    publishes_with_post = True
    generic = {"path": "/topics/{topic}", "publish-path": "/topics/{topic}"}
    note = "Keeps the topic's last 64 messages for replay, as it does by default. Published to with POST."

    def version(self, programs):
        changed = "with changes" if output("git", "status", "--porcelain", "--untracked-files=no") else "clean"
        commit = output("git", "rev-parse", "--short", "HEAD")
        return f"{output(f'{programs}/corecast', '--version')}, source at commit {commit} ({changed})"


class Nchan(Server):
    name, title = "nchan", "Nchan (nginx)"
    packages = ("nginx", "libnginx-mod-nchan")
    command = ["nginx", "-c", "{folder}/nginx.conf", "-e", "{folder}/error.log"]
    publishes_with_post = True
    generic = {"path": "/sub/{topic}", "publish-path": "/pub/{topic}"}
    note = ("Keeps messages in shared memory, which is not in the bytes per connection. Published to with POST, on one "
            "connection (hence `keepalive_requests`). It is the worker that is measured, not the master, which sleeps.")
    files = {"nginx.conf": """\
        load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
        daemon off;
        worker_processes 1;
        pid {folder}/nginx.pid;
        error_log {folder}/error.log error;
        events { worker_connections 19000; }
        http {
            access_log off;
            keepalive_requests 1000000;
            client_body_temp_path {folder}/body;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            uwsgi_temp_path {folder}/uwsgi;
            scgi_temp_path {folder}/scgi;
            server {
                listen 127.0.0.1:{port} backlog=4096;
                location ~ ^/sub/(.+)$ { nchan_subscriber websocket; nchan_channel_id $1; }
                location ~ ^/pub/(.+)$ { nchan_publisher http; nchan_channel_id $1; }
            }
        }
        """}

    def process(self, pid):
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if workers := children.read_text().split():
                return int(workers[0])
            time.sleep(0.05)
        raise RuntimeError("nginx started no worker")


class Mosquitto(Server):
    name, title = "mosquitto", "mosquitto (MQTT)"
    packages = ("mosquitto",)
    command = ["mosquitto", "-c", "{folder}/mosquitto.conf"]
    # A publish of QoS 0: its length takes two bytes of seven bits.
    length = 2 + len(TOPIC) + BYTES
    generic = {
        "path": "/mqtt", "subprotocol": "mqtt",
        "talk": [r">\x10\x15\x00\x04MQTT\x04\x02\x00\x00\x00\x09{run}{id}", r"<\x20\x02"],
        "subscribe": rf"\x82\x{5 + len(TOPIC):02x}\x00\x01\x00\x{len(TOPIC):02x}{{topic}}\x00", "subscribed": r"\x90\x03",
        "publish": rf"\x30\x{0x80 | length & 0x7f:02x}\x{length >> 7:02x}\x00\x{len(TOPIC):02x}{{topic}}{{payload}}",
    }
    note = ("MQTT 3.1.1, QoS 0, in binary frames. The plain listener is there because 2.0.11 does not start with a WebSocket "
            "listener alone. Until a WebSocket is established it is looked after ten times a second if nothing else wakes the "
            "server (strace shows epoll_wait of 100 ms without it), and with `poll` over all WebSockets that stand: part of the time "
            "and of the CPU that connecting takes.")
    files = {"mosquitto.conf": """\
        allow_anonymous true
        persistence false
        connection_messages false
        log_type error
        set_tcp_nodelay true
        listener {spare} 127.0.0.1
        listener {port} 127.0.0.1
        protocol websockets
        socket_domain ipv4
        """}


class Nats(Server):
    name, title = "nats", "NATS"
    packages = ("nats-server",)
    command = ["nats-server", "-c", "{folder}/nats.conf"]
    environment = {"GOMAXPROCS": "1"}
    generic = {
        "path": "/", "talk": ["<INFO", r'>CONNECT {"verbose":false}\r\nPING\r\n', "<PONG"],
        "subscribe": r"SUB {topic} 1\r\nPING\r\n", "subscribed": "PONG", "answers": [["PING", r"PONG\r\n"]],
        "publish": r"PUB {topic} {bytes}\r\n{payload}\r\n",
    }
    note = "NATS's own protocol, core NATS without JetStream, in binary frames; several messages may share one."
    files = {"nats.conf": """\
        listen: "127.0.0.1:{spare}"
        websocket { listen: "127.0.0.1:{port}", no_tls: true }
        """}


class Ws(Server):
    name, title, needs_npm = "ws", "ws (Node)", True
    command = ["node", str(COMPARE / "ws.js"), "{port}"]
    generic = {
        "path": "/", "subscribe": '{"subscribe":"{topic}"}', "subscribed": '"subscribed"',
        "publish": '{"publish":"{topic}","data":"{payload}"}',
    }
    note = "`benches/compare/ws.js`: a Set of sockets for each topic, `send` to each; a message is the bare payload."

    def version(self, programs):
        return npm("ws")


class SocketIo(Server):
    name, title, needs_npm = "socketio", "socket.io (Node)", True
    command = ["node", str(COMPARE / "socketio.js"), "{port}"]
    generic = {
        "path": "/socket.io/?EIO=4&transport=websocket", "talk": ["<0{", ">40", "<40{"],
        "subscribe": '420["subscribe","{topic}"]', "subscribed": "430[", "answers": [["^2$", "3"]],
        "publish": '42["publish","{topic}","{payload}"]',
    }
    note = ('`benches/compare/socketio.js`: a room for each topic. Spoken to as Engine.IO 4 over a WebSocket from the start; a '
            'message is its packet `42["message","..."]`. A connection says two messages and hears three until it is subscribed.')

    def version(self, programs):
        return npm("socket.io")


SERVERS = [Corecast(), Nchan(), Mosquitto(), Nats(), Ws(), SocketIo()]
