"""What corecast is got and installed with, as far as it needs no package: pages, completions, the sample configuration, the unit, the container
and its profile, the manifests. The packages themselves are built by scripts/package, and tried by tests/packages/run.py."""

import errno
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

import yaml
from confined import confine, load, numbers
from engine import DEADLINE, Engine, curl, topic

ROOT = pathlib.Path(__file__).parent.parent.parent
PACKAGING = ROOT / "packaging"
PROFILE = PACKAGING / "container" / "corecast-seccomp.json"
RINGS = ["io_uring_setup", "io_uring_enter", "io_uring_register"]


def corecast(*arguments, **options):
    """Runs `corecast`; returns its status, what it said, and what went wrong."""
    options = {"capture_output": True, "text": True, "timeout": DEADLINE, "stdin": subprocess.DEVNULL, **options}
    done = subprocess.run([Engine.binary, *arguments], **options)
    return done.returncode, done.stdout, done.stderr


def words():
    """Returns the words of the command line."""
    _, said, _ = corecast("--help")
    found = re.findall(r"^  (\w+) ", said[said.index("Commands:"):said.index("Options:")], re.M)
    assert len(found) > 8, said
    return [word for word in found if word != "help"]


def test_completions_complete(_):
    """The completions are scripts that their shells take, and bash's completes words and flags."""
    scripts = {}
    for shell in ["bash", "zsh", "fish"]:
        status, scripts[shell], errors = corecast("completions", shell)
        assert (status, errors) == (0, ""), (shell, errors)
        assert all(word in scripts[shell] for word in words()), shell
        if shutil.which(shell):
            taken = subprocess.run([shell, "-n"], input=scripts[shell], capture_output=True, text=True)
            assert (taken.returncode, taken.stderr) == (0, ""), (shell, taken.stderr)

    def completed(*line):
        ask = f"COMP_WORDS=({shlex.join(line)}); COMP_CWORD={len(line) - 1}; _corecast corecast {shlex.quote(line[-1])} {line[-2]}"
        # On stdin: an argument has 128 KiB at most.
        said = f'{scripts["bash"]}\n{ask}; printf "%s\\n" "${{COMPREPLY[@]}}"\n'
        bash = subprocess.run(["bash", "--norc", "-s"], input=said, capture_output=True, text=True)
        assert bash.returncode == 0, bash.stderr
        return bash.stdout.split()

    assert completed("corecast", "comp") == ["completions"]
    assert completed("corecast", "serve", "--tls-client-c") == ["--tls-client-ca"]
    assert "zsh" in completed("corecast", "completions", "")
    status, _, errors = corecast("completions", "tcsh")
    assert status == 2 and "zsh" in errors, errors


def test_manual_pages_say_what_help_says(_):
    """Every word has a page, which groff takes without a word, and which has every flag that --help has."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder, "made", "man1")
        assert corecast("man", "--dir", folder) == (0, "", "")
        pages = {page.name: page.read_text() for page in folder.iterdir()}
        for word in words():
            page = pages[f"corecast-{word}.1"].replace("\\-", "-")
            flags = set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", corecast(word, "--help")[1], re.M))
            missing = [flag for flag in flags if flag not in page]
            assert not missing and f"corecast-{word}" in pages["corecast.1"].replace("\\-", "-"), (word, missing)
        if shutil.which("groff"):
            for page in folder.iterdir():
                done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True)
                assert (done.returncode, done.stderr) == (0, ""), (page.name, done.stderr)
        assert corecast("man") == (0, pages["corecast.1"], "")
        taken = folder / "corecast.1"
        status, said, errors = corecast("man", "--dir", taken)
        assert (status, said) == (2, "") and str(taken) in errors, errors


def test_the_sample_configuration_passes(_):
    """The sample configuration is one, sets nothing, and says of every setting what it is."""
    status, sample, _ = corecast("check", "--sample")
    assert status == 0
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "corecast.toml")
        file.write_text(sample)
        status, said, errors = corecast("check", "--config", file)
        assert (status, errors) == (0, ""), errors
        settings = re.findall(r"^([a-z-]+) = .*# (.*)$", said, re.M)
        assert len(settings) > 60 and {origin for _, origin in settings} == {"default"}, said
        for key, _ in settings:
            assert re.search(rf"^# .+\n#{key} = ", sample, re.M), key


class Installed(Engine):
    """An engine that runs as a unit says, from the folder it was installed into."""

    def __init__(self, root, unit):
        [start] = re.findall(r"^ExecStart=(.*)$", unit, re.M)
        binary, serve, *flags = [re.sub(r"^/(?=usr/|etc/)", f"{root}/", word) for word in shlex.split(start)]
        assert serve == "serve", start
        self.binary = binary
        super().__init__(*flags)


def test_instructions_of_the_unit(_):
    """Whoever follows the head of the unit word by word, in an empty root, has a service that starts, and a user for it."""
    unit = (ROOT / "tuning" / "corecast.service").read_text()
    head = unit[:unit.index("[Unit]")]
    lines = re.findall(r"^#   (.*)$", head, re.M)
    assert len(lines) == 5 and "systemctl enable --now corecast" in lines[-1], lines
    with tempfile.TemporaryDirectory() as root:
        # What every system has.
        for folder in ["usr/local/bin", "etc/systemd/system"]:
            pathlib.Path(root, folder).mkdir(parents=True)
        steps = "\n".join(re.sub(r"(?<![\w.])/(?=usr/|etc/)", f"{root}/", line) for line in lines)
        steps = steps.replace("target/release/corecast", Engine.binary)
        has_users = shutil.which("systemd-sysusers")
        script = f"""set -e
            systemctl() {{ echo "$*"; }}
            systemd-sysusers() {{ {f"command systemd-sysusers --root={root}" if has_users else ":"}; }}
            PATH={root}/usr/local/bin:$PATH
            umask 022
            {steps}"""
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-2:] == ["daemon-reload", "enable --now corecast"], done.stdout
        installed = pathlib.Path(root, "etc/systemd/system/corecast.service").read_text()
        configuration = pathlib.Path(root, "etc/corecast/corecast.toml")
        assert stat.S_IMODE(configuration.stat().st_mode) == 0o644, "its user has to read it"
        [user] = re.findall(r"^User=(.*)$", installed, re.M)
        assert re.search(rf"^u {user} ", pathlib.Path(root, "etc/sysusers.d/corecast.conf").read_text(), re.M)
        if has_users:
            assert f"{user}:" in pathlib.Path(root, "etc/passwd").read_text()
        with Installed(root, installed) as engine:
            assert engine.publish(topic(), "hello")
            assert engine.stop() == 0, engine.errors
        # Once more, as for a newer binary: what an operator wrote stays.
        configuration.write_text("shards = 1\n")
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0 and configuration.read_text() == "shards = 1\n", done.stderr


def test_ready_asks_the_admin_listener(shared):
    """`corecast ready` says what /readyz and /healthz say, as a status: 0, or 1 when it drains, is not there, or is something else."""
    assert corecast("ready", "--admin", f"127.0.0.1:{shared.admin_port}") == (0, "ready\n", "")
    assert corecast("ready", "--alive", "--admin", f"0.0.0.0:{shared.admin_port}") == (0, "ok\n", "")
    environment = os.environ | {"CORECAST_ADMIN": f"127.0.0.1:{shared.admin_port}", "CORECAST_LISTEN": "0.0.0.0:8080"}
    assert corecast("ready", env=environment) == (0, "ready\n", "")
    status, said, errors = corecast("ready", "--admin", "off")
    assert (status, said) == (2, "") and "switched off" in errors, errors
    with tempfile.TemporaryDirectory() as folder:
        path = f"unix:{folder}/admin.sock"
        with Engine("--shards", "1", "--admin", path, "--allowed-hosts", "messages.example.com") as engine:
            assert corecast("ready", "--admin", path) == (0, "ready\n", "")
            stays = engine.raw()
            stays.sendall(b"POST /topics/t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n")
            engine.process.send_signal(signal.SIGTERM)
            engine.logs("stopping")
            # Draining, or so far that nobody answers any more.
            status, said, errors = corecast("ready", "--admin", path)
            assert (status, said) == (1, ""), (said, errors)
            stays.close()
    status, said, errors = corecast("ready", "--admin", path)
    assert (status, said) == (1, "") and path in errors, errors


def test_ready_waits_for_nobody(_):
    """A listener that is silent, trickles, floods or speaks something else costs `corecast ready` a second, and is said to be wrong."""
    begins = b"HTTP/1.1 200 OK\r\n"

    def trickle(peer):
        while True:
            peer.sendall(b"x")
            time.sleep(0.05)

    def flood(peer):
        while True:
            peer.sendall(b"x" * 65536)

    answers = {
        "silence": lambda peer: peer.recv(65536) and peer.recv(1),
        "a trickle": trickle,
        "a flood": flood,
        "half a head": lambda peer: peer.sendall(begins),
        "no HTTP": lambda peer: peer.sendall(b"SSH-2.0-x\r\n\r\n"),
        "no number": lambda peer: peer.sendall(b"HTTP/1.1 OK\r\n\r\n"),
        "a control character": lambda peer: peer.sendall(b"HTTP/1.1 503 no\r\n\r\n\x1b[2J"),
    }
    for name, answer in answers.items():
        with socket.create_server(("127.0.0.1", 0)) as server:

            def serve():
                peer, _ = server.accept()
                with peer:
                    try:
                        answer(peer)
                    except OSError as error:
                        # The other end has gone, as it should.
                        assert error.errno in (errno.EPIPE, errno.ECONNRESET), error

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            start = time.monotonic()
            status, said, errors = corecast("ready", "--admin", f"127.0.0.1:{server.getsockname()[1]}")
            assert (status, said) == (1, "") and errors.startswith("error: ") and "\x1b" not in errors, (name, said, errors)
            assert time.monotonic() - start < 5, name
            thread.join(DEADLINE)
            assert not thread.is_alive(), name


def test_what_the_profile_allows(_):
    """The profile of the container allows the rings, nothing that reaches beyond the container, and every call of it is one."""
    profile = load(PROFILE)
    assert (profile["defaultAction"], profile["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", errno.ENOSYS)
    assert "architectures" not in profile, "Docker takes one of the two only"
    rules = profile["syscalls"]
    assert rules[0]["names"] == RINGS
    plain = [name for rule in rules if "args" not in rule for name in rule["names"]]
    bounded = {name for rule in rules if "args" in rule for name in rule["names"]}
    assert len(set(plain)) == len(plain) and not bounded & set(plain), "each is allowed once"
    assert not set(plain) - numbers().keys(), set(plain) - numbers().keys()
    assert bounded == {"socket", "clone"}
    beyond = """acct add_key bpf chroot clone3 delete_module fanotify_init finit_module fsopen init_module ioperm iopl kexec_load keyctl
        mknod mount mount_setattr move_mount name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open pivot_root
        process_vm_readv process_vm_writev ptrace quotactl reboot request_key setdomainname sethostname setns settimeofday swapon
        umount2 unshare userfaultfd""".split()
    assert not set(beyond) & set(plain), set(beyond) & set(plain)


def test_the_profile_suffices(_):
    """Under the profile the engine and every word of it do all they do: publish, read, TLS, reload, drain."""
    enter = confine(load(PROFILE))
    with tempfile.TemporaryDirectory() as folder:
        sealed = ["--listen", "tls://127.0.0.1:0", "--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
            + ["-subj", "/CN=localhost", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"], check=True, capture_output=True
        )
        revoked = ["--revocations", f"{folder}/revoked", "--listen", f"unix:{folder}/socket"]
        with Engine("--shards", "2", *sealed, *revoked, preexec_fn=enter) as engine:
            name = topic()
            engine.publish(name, "one")
            with engine.ws(f"/topics/{name}?since=earliest") as ws:
                assert ws.recv(timeout=DEADLINE) == "one"
                port = re.search(r"listening on https://127.0.0.1:(\d+)", engine.greeting).group(1)
                answer = curl(f"https://127.0.0.1:{port}/topics/{name}", "--insecure", "--data-binary", "@-", data="two")
                assert answer.status == 200 and ws.recv(timeout=DEADLINE) == "two"
                answer = curl(f"http://localhost/topics/{name}", "--unix-socket", f"{folder}/socket", "--data-binary", "@-", data="three")
                assert answer.status == 200 and ws.recv(timeout=DEADLINE) == "three"
            url = ["--url", f"http://localhost:{engine.port}"]
            status, said, errors = corecast("pub", *url, name, "four", preexec_fn=enter)
            assert status == 0, errors
            admin = ["--admin", f"127.0.0.1:{engine.admin_port}"]
            assert corecast("ready", *admin, preexec_fn=enter) == (0, "ready\n", "")
            assert corecast("check", preexec_fn=enter)[0] == 0
            assert corecast("token", "--new-key", f"{folder}/secret", preexec_fn=enter)[0] == 0
            revoke = curl(f"http://127.0.0.1:{engine.admin_port}/revoke", "--json", "@-", data='{"sub":"anna"}')
            assert revoke.status == 200 and "anna" in pathlib.Path(folder, "revoked").read_text(), revoke.body
            engine.process.send_signal(signal.SIGHUP)
            engine.logs("configuration")
            assert engine.stop() == 0, engine.errors


def test_without_rings_it_names_seccomp(_):
    """Under a profile that forbids io_uring, as container runtimes have it, it does not start, and names seccomp and the three calls."""
    profile = load(PROFILE)
    profile["syscalls"] = profile["syscalls"][1:]
    for number in [errno.EPERM, errno.ENOSYS]:
        forbidding = {**profile, "defaultErrnoRet": number}
        if number == errno.EPERM:
            # The C library makes threads the old way only where the new one is not there.
            forbidding = {**forbidding, "syscalls": [*profile["syscalls"], {"names": ["clone3"], "action": "SCMP_ACT_ALLOW"}]}
        status, said, errors = corecast("serve", "--listen", "127.0.0.1:0", "--admin", "off", preexec_fn=confine(forbidding))
        assert (status, said) == (2, ""), (number, said, errors)
        assert "seccomp" in errors and all(name in errors for name in RINGS), errors


def test_the_container_file(shared):
    """The container is the binary alone, of nobody, with words that it has; its health check asks it."""
    lines = (PACKAGING / "container" / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    file = {}
    for line in lines:
        if line and not line.startswith("#"):
            word, rest = line.split(" ", 1)
            file.setdefault(word, []).append(rest)
    assert file["FROM"] == ["scratch"] and "RUN" not in file
    user, group = map(int, file["USER"][0].split(":"))
    assert user > 0 and group > 0
    assert [copied.split()[-2:] for copied in file["COPY"]][0] == ["corecast", "/usr/bin/corecast"]
    entry, command = json.loads(file["ENTRYPOINT"][0]), json.loads(file["CMD"][0])
    assert (entry, command) == (["/usr/bin/corecast"], ["serve"])
    [variables] = file["ENV"]
    [port] = file["EXPOSE"]
    assert f"CORECAST_LISTEN=0.0.0.0:{port}" in variables.split()
    health = json.loads(re.search(r"CMD (\[.*\])", file["HEALTHCHECK"][0]).group(1))
    assert health[0] == entry[0]
    assert corecast(*health[1:], env=os.environ | {"CORECAST_ADMIN": f"127.0.0.1:{shared.admin_port}"})[0] == 0
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", file["LABEL"][0]))
    assert {"title", "source", "licenses", "version", "revision", "created"} <= labels, labels


def manifests():
    """Returns what the manifests hold, by kind; every file is named by the kustomization or is the one that stands beside it."""
    folder = PACKAGING / "kubernetes"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml", "seccomp-on-nodes.yaml"}
    assert set(kustomization["resources"]) == files, files
    found = {"Kustomization": kustomization}
    for name in [*files, "seccomp-on-nodes.yaml"]:
        for document in yaml.safe_load_all((folder / name).read_text()):
            assert document["kind"] not in found, name
            found[document["kind"]] = document
    return found


def test_the_manifests_fit_the_engine(shared):
    """One pod, without rights, under the profile that is shipped, whose probes, ports, paths and times are those of the engine."""
    found = manifests()
    deployment = found["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    profile = pod["securityContext"]["seccompProfile"]
    assert profile == {"type": "Localhost", "localhostProfile": PROFILE.name}
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"]:
        binary, *asks = container[probe]["exec"]["command"]
        assert binary == "/usr/bin/corecast", probe
        assert corecast(*asks, env=os.environ | {"CORECAST_ADMIN": f"127.0.0.1:{shared.admin_port}"})[0] == 0, probe
    # The configuration: the engine takes it, with a key where the pod has one.
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    text = (PACKAGING / "kubernetes" / "corecast.toml").read_text()
    [keys] = re.findall(r'^token-key = \["secret:(.*)/secret"\]$', text, re.M)
    assert variables["CORECAST_CONFIG"] in mounts and keys in mounts, mounts
    assert [found["Kustomization"]["configMapGenerator"][0]["files"], container["volumeMounts"][0]["subPath"]] == [["corecast.toml"], "corecast.toml"]
    with tempfile.TemporaryDirectory() as folder:
        assert corecast("token", "--new-key", f"{folder}/secret")[0] == 0
        file = pathlib.Path(folder, "corecast.toml")
        file.write_text(text.replace(keys, folder))
        status, said, errors = corecast("check", "--config", file, env=os.environ | variables | {"CORECAST_CONFIG": str(file)})
        assert status == 0, errors
    effective = dict(re.findall(r'^([a-z-]+) = \[?"?([^"\]#]*?)"?\]? +# ', said, re.M))
    [port] = container["ports"]
    assert effective["listen"] == f"0.0.0.0:{port['containerPort']}"
    assert effective["shards"] == container["resources"]["limits"]["cpu"] == container["resources"]["requests"]["cpu"]
    assert int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 10 > 2 * int(effective["memory"].removesuffix("M"))
    assert pod["terminationGracePeriodSeconds"] >= int(effective["shutdown-timeout"].removesuffix("s")) + 5
    # What leads to it.
    [service] = found["Service"]["spec"]["ports"]
    [ingress] = found["NetworkPolicy"]["spec"]["ingress"]
    assert service["targetPort"] == ingress["ports"][0]["port"] == port["name"]
    assert found["PodDisruptionBudget"]["spec"]["minAvailable"] == 1
    # And the profile to its node.
    node = found["DaemonSet"]["spec"]["template"]["spec"]
    assert f"/node/{PROFILE.name}" in node["containers"][0]["command"][-1]
    assert PROFILE.exists() and f"packaging/container/{PROFILE.name}" in (PACKAGING / "kubernetes" / "seccomp-on-nodes.yaml").read_text()


def test_one_version(_):
    """The workspace, the JavaScript client and the image of the manifests have one version, which the binary says."""
    [version] = re.findall(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.M)
    assert re.fullmatch(rf"corecast {re.escape(version)}( \([\w.+-]+( \d{{4}}-\d\d-\d\d)?\))?\n", corecast("--version")[1])
    assert json.loads((ROOT / "clients" / "js" / "package.json").read_text())["version"] == version
    assert manifests()["Kustomization"]["images"][0]["newTag"] == version


def test_packages_hold_what_is_there(_):
    """What the packages are to hold is in the source or made by scripts/package, both hold the same, and their scripts are shell."""
    manifest = (ROOT / "engine" / "Cargo.toml").read_text()
    deb, rpm = manifest[manifest.index("[package.metadata.deb]"):].split("[package.metadata.generate-rpm]")
    script = (ROOT / "scripts" / "package").read_text().replace('"', "")
    script += script.replace("$shell", "bash") + script.replace("$shell", "fish")
    sources = re.findall(r'^    \["([^"]+)", "([^"]+)"', deb, re.M), re.findall(r'source = "([^"]+)", dest = "([^"]+)"', rpm)
    binaries = []
    for assets, folder in zip(sources, [ROOT / "engine", ROOT]):
        assert len(assets) > 10, assets
        for source, _ in assets:
            made = source.removeprefix("target/release/packaging/")
            if made == source:
                assert (folder / source).exists(), source
            else:
                assert f"$made/{made.removesuffix('.gz')}" in script, source
        binaries.append({pathlib.PurePath(source).name for source, _ in assets} - {"changelog.gz", "changelog.Debian.gz", "copyright", "LICENSE-APACHE"})
    assert binaries[0] == binaries[1], binaries[0] ^ binaries[1]
    scripts = [ROOT / "scripts" / "package", *(PACKAGING / "deb").glob("p*"), *(PACKAGING / "rpm").iterdir()]
    assert len(scripts) == 7, scripts
    for path in scripts:
        shell = "bash" if path.name == "package" else "sh"
        taken = subprocess.run([shell, "-n", path], capture_output=True, text=True)
        assert (taken.returncode, taken.stderr) == (0, ""), (path, taken.stderr)


def test_the_sbom_is_whole(_):
    """The SBOM names what the binary is linked from, with licences and hashes, and nothing that only tests use; twice it is the same."""
    command = [sys.executable, PACKAGING / "sbom.py", "corecast", "1a2b3c4", "0"]
    written = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert written[0] == written[1]
    sbom = json.loads(written[0])
    assert (sbom["bomFormat"], sbom["specVersion"], sbom["metadata"]["timestamp"]) == ("CycloneDX", "1.5", "1970-01-01T00:00:00Z")
    parts = {part["name"]: part for part in sbom["components"]}
    assert {"rustls", "glommio", "corecast-protocol", "aws-lc-sys"} <= parts.keys() and not {"rcgen", "tempfile", "cc"} & parts.keys()
    assert all(part["licenses"] for part in parts.values())
    assert all("hashes" in part for name, part in parts.items() if not name.startswith("corecast-"))
    references = {part["bom-ref"] for part in [sbom["metadata"]["component"], *sbom["components"]]}
    assert {edge["ref"] for edge in sbom["dependencies"]} == references
    assert all(other in references for edge in sbom["dependencies"] for other in edge["dependsOn"])
