"""Unix sockets: requests, streams and WebSockets over a path of this host; the file, who owns it, and what is left of it."""

import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import tempfile

import websockets.sync.client
from engine import DEADLINE, Engine, curl, eventually, topic


class Folder:
    """A folder that lives as long as the test."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="corecast-unix-"))
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def over(path, url, *more, **options):
    """Asks over a Unix socket."""
    return curl(f"http://localhost{url}", "--unix-socket", str(path), *more, **options)


def connect(path, url="/ws"):
    return websockets.sync.client.unix_connect(str(path), f"ws://localhost{url}", open_timeout=DEADLINE, close_timeout=DEADLINE)


def test_requests_and_websockets_over_a_path(_):
    """What is published over a path is read over the network and the other way round; large messages pass, and all shards serve it."""
    with Folder() as folder:
        path = folder / "corecast.sock"
        with Engine("--shards", "2", "--listen", f"unix:{path}") as own:
            assert f"listening on unix:{path}\n" in own.greeting, own.greeting
            name = topic("unix")
            assert over(path, f"/topics/{name}", "-d", "hello").status == 200
            assert curl(f"{own.url}/topics/{name}").json()[0]["data"] == "hello"
            own.publish(name, "from the network")
            assert [one["data"] for one in over(path, f"/topics/{name}?since=earliest").json()] == ["hello", "from the network"]
            big = b"x" * 65536
            assert over(path, f"/topics/{name}", "--data-binary", "@-", data=big).status == 200
            assert over(path, f"/topics/{name}?transport=value").body == big
            readers = [connect(path, f"/topics/{name}?since=live") for _ in range(64)]
            own.publish(name, "to all")
            for reader in readers:
                assert reader.recv(timeout=DEADLINE) == "to all"
            shards = eventually(
                lambda: [s for s in [own.stats()["shards"]] if sum(shard["connections"] for shard in s) >= 64], "all are counted"
            )[0]
            assert all(shard["connections"] >= 8 for shard in shards), "they are spread"
            for reader in readers:
                reader.close()
            eventually(lambda: own.stats()["total"]["connections"] == 0, "all have gone")


def test_connections_come_and_go_on_a_path(_):
    """A thousand connections one after the other, some of which end in the midst of a request, leave nothing behind."""
    with Folder() as folder:
        path = folder / "corecast.sock"
        with Engine("--shards", "2", "--connections", "50", "--listen", f"unix:{path}") as own:
            for number in range(1000):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(DEADLINE)
                    client.connect(str(path))
                    if number % 3 == 0:
                        continue
                    client.sendall(b"GET /topics/t HTTP/1.1\r\nHost: localhost\r\n" + (b"" if number % 3 == 1 else b"\r\n"))
                    if number % 3 == 2:
                        answer = client.recv(1000)
                        assert answer.startswith(b"HTTP/1.1 200 "), (number, answer)
            eventually(lambda: own.stats()["total"]["connections"] == 0, "all have gone")
            assert over(path, "/topics/t", "-d", "x").status == 200
            # More than there is room for wait, and are served when others have gone.
            crowd = [socket.socket(socket.AF_UNIX) for _ in range(150)]
            for one in crowd:
                one.connect(str(path))
            # The other listener keeps some places for those that it accepts.
            eventually(lambda: own.stats()["total"]["connections"] >= 30, "the tables are full")
            for one in crowd:
                one.close()
            eventually(lambda: own.stats()["total"]["connections"] == 0, "all have gone again")
            assert over(path, "/topics/t", "-d", "x").status == 200


def test_the_file_of_a_socket(_):
    """Its file has the permissions of the settings and goes with the engine; one that a killed engine left is replaced, one in use is not."""
    with Folder() as folder:
        path, admin = folder / "corecast.sock", folder / "admin.sock"
        flags = ["--shards", "1", "--listen", f"unix:{path}", "--admin", f"unix:{admin}"]
        with Engine(*flags, "--unix-mode", "0600") as own:
            for one in (path, admin):
                assert stat.S_IMODE(one.stat().st_mode) == 0o600 and stat.S_ISSOCK(one.stat().st_mode)
            second = subprocess.run(
                [Engine.binary, "serve", "--listen", f"unix:{path}", "--admin", "off", "--memory", "64M"],
                capture_output=True, text=True, timeout=2 * DEADLINE,
            )
            assert second.returncode == 2 and "somebody listens there already" in second.stderr, second.stderr
            assert over(path, "/topics/t", "-d", "x").status == 200, "the first goes on"
            assert own.stop() == 0
            assert not path.exists() and not admin.exists()
        killed = Engine(*flags)
        killed.process.send_signal(signal.SIGKILL)
        killed.process.wait(DEADLINE)
        assert path.exists() and admin.exists()
        with Engine(*flags):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert over(path, "/topics/t", "-d", "x").status == 200
        path.write_text("precious")
        refused = subprocess.run(
            [Engine.binary, "serve", "--listen", f"unix:{path}", "--admin", "off", "--memory", "64M"],
            capture_output=True, text=True, timeout=2 * DEADLINE,
        )
        assert refused.returncode == 2 and "no socket has that name" in refused.stderr, refused.stderr
        assert path.read_text() == "precious"
        if os.geteuid() == 0:
            with Engine("--shards", "1", "--listen", f"unix:{folder}/owned.sock", "--unix-owner", "1:2"):
                owned = (folder / "owned.sock").stat()
                assert (owned.st_uid, owned.st_gid) == (1, 2)


def test_the_admin_listener_on_a_path(_):
    """Statistics, health and lists are answered over a path as over the network, side by side; pages are asked for their origin there, too."""
    with Folder() as folder:
        admin = folder / "admin.sock"
        with Engine("--shards", "1", "--admin", f"unix:{admin}") as own:
            assert f"admin on unix:{admin} " in own.greeting, own.greeting
            for url in ("/healthz", "/readyz", "/stats", "/connections"):
                assert over(admin, url).status == 200, url
                assert curl(f"http://127.0.0.1:{own.admin_port}{url}").status == 200, url
            assert over(admin, "/reload", "-d", "", "-H", "Origin: https://evil.example").status == 403


def test_only_a_path(_):
    """An engine that listens on a path alone says how to reach it, and names its clients by a loopback address."""
    with Folder() as folder:
        path, admin = folder / "only.sock", folder / "admin.sock"
        command = [Engine.binary, "serve", "--listen", f"unix:{path}", "--admin", f"unix:{admin}", "--memory", "64M", "--shards", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                lines = [process.stdout.readline() for _ in range(4)]
                assert f"try: curl --unix-socket {path} -d hello http://localhost/topics/news\n" in lines, lines
                with connect(path) as ws:
                    assert ws.recv(timeout=DEADLINE).startswith("HI ")
                    assert [row["peer"] for row in over(admin, "/connections").json()] == ["127.0.0.1:0"]
            finally:
                process.terminate()
                assert process.wait(2 * DEADLINE) == 0
        assert list(folder.iterdir()) == []


def test_rights_by_user(_):
    """What a user of this host may do, the table of grants says; others may nothing then, over the network neither, nor those for whom a
    proxy asks that may something itself."""
    with Folder() as folder:
        path = folder / "corecast.sock"
        own_grant = f"uid:{os.getuid()} publish:mine/# subscribe:#"
        flags = ["--shards", "1", "--listen", f"unix:{path}", "--trusted-proxies", "127.0.0.1"]
        with Engine(*flags, "--unix-grants", own_grant) as own:
            assert over(path, "/topics/mine/a", "-d", "x").status == 200
            assert over(path, "/topics/other", "-d", "x").status == 403
            assert over(path, "/topics/mine/a").json()[0]["data"] == "x"
            for rights in (["-d", "x"], []):
                assert curl(f"{own.url}/topics/mine/a", *rights).status == 401
                assert over(path, "/topics/mine/a", *rights, "-H", "X-Forwarded-For: 192.0.2.1").status == 401
            with connect(path) as ws:
                assert ws.recv(timeout=DEADLINE).startswith("HI ")
                ws.send("SUB mine/a id=1")
                assert ws.recv(timeout=DEADLINE).startswith("OK 1 ")
                ws.send("PUB mine/a id=2\ny")
                assert sorted(ws.recv(timeout=DEADLINE).split(" ")[0] for _ in range(3)) == ["MSG", "MSG", "OK"]
                ws.send("PUB other id=3\ny")
                refused = ws.recv(timeout=DEADLINE)
                assert refused.startswith("ERR 3 forbidden"), refused
        # Nothing is said of anybody: who reaches it may everything, but for those for whom a trusted proxy asks.
        with Engine(*flags) as own:
            assert curl(f"{own.url}/topics/mine/a", "-d", "x").status == 200
            assert curl(f"{own.url}/topics/mine/a", "-d", "x", "-H", "X-Forwarded-For: 192.0.2.1").status == 401
            assert curl(f"{own.url}/topics/mine/a", "-d", "x", "-H", "X-Forwarded-For: 127.0.0.9").status == 200
        with Engine(*flags, "--insecure") as own:
            assert curl(f"{own.url}/topics/mine/a", "-d", "x", "-H", "X-Forwarded-For: 192.0.2.1").status == 200
