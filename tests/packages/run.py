"""Tries the packages that scripts/package built: `run.py FOLDER`. Last line: `N passed, N failed, N skipped`.

Each is unpacked or installed where nothing of corecast is, started with the configuration it brings, and one message is published and
read. The Debian package goes into a clean root, made by debootstrap from the mirror of this host or, without that, laid over this host's
own; there it is installed, installed again, and purged. All of it runs in namespaces of its own, so that no port, user or file of
the host is touched; that takes root. What a missing tool prevents is skipped, and said.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import traceback

ROOT = pathlib.Path(__file__).parent.parent.parent
DEADLINE = 60
# Publishes and reads, with nothing but the program itself; `$program` starts it.
TALK = """
place=$(mktemp -d)
$program serve "$@" >"$place/said" 2>&1 &
engine=$!
for i in $(seq 100); do $program ready >"$place/ready" 2>&1 && break; sleep 0.1; done
grep ready "$place/ready" || { cat "$place/said" "$place/ready"; exit 1; }
$program sub --since earliest news >"$place/heard" 2>&1 &
reader=$!
$program pub news 'hello, world' || exit 1
for i in $(seq 100); do grep 'hello, world' "$place/heard" && break; sleep 0.1; done
kill $reader || cat "$place/heard"
kill $engine
wait $engine || { cat "$place/said"; exit 1; }
rm -r "$place"
echo stopped
"""


class Skipped(Exception):
    """This host has not what it takes."""


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise Skipped(f"{', '.join(missing)} is missing")


def needs_root():
    if os.geteuid() != 0:
        raise Skipped("namespaces and other users take root")


def run(*command, deadline=DEADLINE, **options):
    """Runs a command; returns what it said, on both streams, or says what it said."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    done = subprocess.run([str(word) for word in command], timeout=deadline, **options)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def alone(script, *arguments, root=None, **options):
    """Runs a script with a network of its own, whose loopback is up, and with its own processes; in another root, if one is given."""
    inside = ["chroot", root, "sh", "-c", script, "sh", *arguments] if root else ["sh", "-c", script, "sh", *arguments]
    mounts = f"mount -t proc proc {root}/proc && mount -t sysfs sysfs {root}/sys && " if root else ""
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", f'{mounts}ip link set lo up && exec "$@"', "sh"]
    return run(*command, *inside, **options)


def spoke(said):
    assert "hello, world" in said and said.rstrip().endswith("stopped"), said


def one(folder, pattern):
    found = sorted(folder.glob(pattern))
    if not found:
        raise Skipped(f"there is no {pattern}")
    assert len(found) == 1, found
    return found[0]


def test_sums(folder):
    """SHA256SUMS names every file, with the sum that it has."""
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    files = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert sums.keys() == files, sums.keys() ^ files
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@contextlib.contextmanager
def unpacked(folder):
    with tempfile.TemporaryDirectory() as place:
        archive = one(folder, "corecast-*.tar.gz")
        with tarfile.open(archive) as tar:
            owners = {(member.uid, member.gid, member.mode & 0o7022) for member in tar}
            assert owners == {(0, 0, 0)}, owners
            tar.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        yield pathlib.Path(place, archive.name.removesuffix(".tar.gz"))


def test_archive(folder):
    """The archive brings what it says, its binary needs no file of the system, and says its commit; it serves with the configuration it brings."""
    with unpacked(folder) as root:
        for name in ["LICENSE-MIT", "LICENSE-APACHE", "README.md", "man/corecast.1", "man/corecast-serve.1", "completions/_corecast",
                     "systemd/corecast.service", "container/Containerfile", "container/corecast-seccomp.json", "kubernetes/kustomization.yaml"]:
            assert (root / name).is_file(), name
        version = run(root / "corecast", "--version")
        assert re.fullmatch(r"corecast \d+\.\d+\.\d+ \([\w+-]+ \d{4}-\d\d-\d\d\)\n", version), version
        elf = run("readelf", "--program-headers", root / "corecast")
        assert "INTERP" not in elf, "it is static"
        # Everything that the unit's head names lies where it says, seen from here.
        head = (root / "systemd" / "corecast.service").read_text().split("[Unit]")[0]
        for line in re.findall(r"^#   install (?:-D )?-m \d+ (\S+) ", head, re.M):
            assert (root / line).is_file(), line
        needs_root()
        # In a root that holds nothing but it and a shell: so it is sure to resolve and to read with what is inside.
        spoke(alone(TALK.replace("$program", str(root / "corecast")), "--config", root / "corecast.toml"))
        said = alone(f"""{root}/corecast serve --listen 127.0.0.1:8080 >/dev/null 2>&1 &
            for i in $(seq 100); do {root}/corecast ready >/dev/null 2>&1 && break; sleep 0.1; done
            {root}/corecast pub --url http://localhost:8080 news by-name && {root}/corecast-load --version; kill $!""")
        assert "corecast-load" in said, "a name is resolved, by the static binary too"


def test_archive_on_nothing(folder):
    """The binary of the archive runs in a root that holds nothing but itself, and what every container has: /proc, /sys and /dev."""
    needs_root()
    with unpacked(folder) as root, tempfile.TemporaryDirectory() as empty:
        for name in ["dev", "proc", "sys", "usr/bin"]:
            pathlib.Path(empty, name).mkdir(parents=True)
        shutil.copy(root / "corecast", pathlib.Path(empty, "usr/bin/corecast"))
        # Another user has to get there.
        os.chmod(empty, 0o755)
        # A static program asks /dev/urandom where it cannot look up the call.
        mounts = f"mount -t proc proc {empty}/proc; mount -t sysfs sysfs {empty}/sys; mount --bind /dev {empty}/dev"
        inside = f"chroot --userspec=65532:65532 {empty} /usr/bin/corecast"
        spoke(alone(mounts + TALK.replace("$program", inside), "--listen", "127.0.0.1:8080"))


@contextlib.contextmanager
def clean_root(place):
    """Makes the root of a fresh system: by debootstrap, or as a layer over the host's."""
    root = pathlib.Path(place, "root")
    root.mkdir()
    mirrors = [path for path in [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")] if path.is_file()]
    urls = [url for path in mirrors for url in re.findall(r"^(?:deb (?:\[.*?\] )?|URIs: *)(\S+)", path.read_text(), re.M)]
    release = dict(re.findall(r'^(\w+)="?(.*?)"?$', pathlib.Path("/etc/os-release").read_text(), re.M))
    if shutil.which("debootstrap") and urls and release.get("ID") == "debian":
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", release["VERSION_CODENAME"], root, urls[0]], capture_output=True, text=True, timeout=600
        )
        if done.returncode == 0:
            print("     a root of its own, by debootstrap")
            yield root
            return
        print(f"     debootstrap failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    print("     a layer over the root of this host")
    layers = pathlib.Path(place, "layers")
    run("mkdir", "-p", layers)
    run("mount", "-t", "tmpfs", "tmpfs", layers)
    try:
        run("mkdir", layers / "upper", layers / "work")
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work", root)
        try:
            yield root
        finally:
            run("umount", root)
    finally:
        run("umount", layers)


def files_of(root):
    """Returns what packages may touch of a root: what is in each file of its configuration, and of all others how long they are. Left out is
    what dpkg and others keep for themselves, and the copies that the tools of passwd make."""
    own = ("var/lib/dpkg", "var/log", "var/cache", "var/lib/systemd/deb-systemd-helper-enabled")
    found = {}
    for top in ["etc", "opt", "usr", "var"]:
        for folder, folders, names in os.walk(root / top):
            inside = os.path.relpath(folder, root)
            folders[:] = [name for name in folders if not os.path.join(inside, name).startswith(own)]
            for name in [*names, *folders]:
                path, known = os.path.join(folder, name), os.path.join(inside, name)
                if re.search(r"^etc/.*-$", known):
                    continue
                seen = os.lstat(path)
                held = pathlib.Path(path).read_bytes() if top == "etc" and stat.S_ISREG(seen.st_mode) else seen.st_size
                found[known] = (stat.S_IFMT(seen.st_mode), 0 if stat.S_ISDIR(seen.st_mode) else held)
    return found


def test_debian_package(folder):
    """In a clean root the package installs, serves as its user, keeps a changed configuration, and leaves nothing when it is purged."""
    package = one(folder, "corecast_*.deb")
    needs("dpkg", "unshare", "ip")
    needs_root()
    with tempfile.TemporaryDirectory() as place, clean_root(place) as root:
        shutil.copy(package, root / "tmp")
        before = files_of(root)
        install = f"dpkg --install /tmp/{package.name}"
        said = alone(install, root=root)
        assert "corecast:" in (root / "etc/passwd").read_text(), said
        there = alone("dpkg --listfiles corecast", root=root).splitlines()
        for path in ["/usr/bin/corecast", "/etc/corecast/corecast.toml", "/usr/lib/systemd/system/corecast.service", "/usr/share/man/man1/corecast.1.gz",
                     "/usr/share/man/man1/corecast-serve.1.gz", "/usr/share/bash-completion/completions/corecast", "/usr/share/zsh/vendor-completions/_corecast",
                     "/usr/share/fish/vendor_completions.d/corecast.fish", "/usr/share/doc/corecast/copyright", "/usr/lib/sysusers.d/corecast.conf"]:
            assert path in there, path
        unit = (root / "usr/lib/systemd/system/corecast.service").read_text()
        [start] = re.findall(r"^ExecStart=/usr/bin/corecast serve (.*)$", unit, re.M)
        # As the unit runs it.
        as_user = "setpriv --reuid=corecast --regid=corecast --clear-groups corecast"
        spoke(alone(TALK.replace("$program", as_user), *start.split(), root=root))
        configuration = root / "etc/corecast/corecast.toml"
        configuration.write_text(configuration.read_text() + "shards = 1\n")
        alone(install, root=root)
        assert configuration.read_text().endswith("shards = 1\n"), "what an operator wrote stays"
        alone("dpkg --remove corecast", root=root)
        assert configuration.exists() and not (root / "usr/bin/corecast").exists()
        alone("dpkg --purge corecast", root=root)
        after = files_of(root)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert not changed, f"left behind or changed: {sorted(changed)}"


def test_debian_lint(folder):
    """lintian finds no error in the Debian package, but that it keeps the names of its functions: a panic says where it was."""
    package = one(folder, "corecast_*.deb")
    needs("lintian")
    done = subprocess.run(["lintian", "--fail-on", "none", package], capture_output=True, text=True, timeout=DEADLINE)
    print("     " + "\n     ".join(done.stdout.splitlines()))
    errors = [line for line in done.stdout.splitlines() if line.startswith("E: ") and "unstripped-binary-or-object" not in line]
    assert not errors, "\n".join(errors)


def test_rpm(folder):
    """The RPM lists what it brings, its sums are right, its scripts are shell, and what it holds serves."""
    package = one(folder, "corecast-*.rpm")
    needs("rpm", "rpm2cpio", "cpio")
    listed = run("rpm", "-qlp", package).splitlines()
    for path in ["/usr/bin/corecast", "/etc/corecast/corecast.toml", "/usr/lib/systemd/system/corecast.service", "/usr/share/man/man1/corecast.1.gz",
                 "/usr/share/zsh/site-functions/_corecast", "/usr/lib/sysusers.d/corecast.conf"]:
        assert path in listed, (path, listed)
    assert run("rpm", "-qcp", package).splitlines() == ["/etc/corecast/corecast.toml"]
    run("rpm", "--checksig", "--nosignature", package)
    requires = run("rpm", "-qRp", package)
    assert "libc.so.6" in requires, requires
    scripts = run("rpm", "-qp", "--scripts", package)
    assert scripts.count("scriptlet") == 3, scripts
    with tempfile.TemporaryDirectory() as place:
        run("sh", "-c", f"rpm2cpio {package} | cpio --extract --make-directories --quiet", cwd=place)
        needs_root()
        spoke(alone(TALK.replace("$program", f"{place}/usr/bin/corecast"), "--config", f"{place}/etc/corecast/corecast.toml"))


def test_container(folder):
    """The image builds from the archive, runs under the shipped profile as nobody, is healthy, and serves; under the default one it names seccomp."""
    needs("buildah", "podman")
    needs_root()
    with unpacked(folder) as root, tempfile.TemporaryDirectory() as place:
        store = ["--root", f"{place}/store", "--runroot", f"{place}/run", "--storage-driver", "vfs"]
        run("buildah", *store, "build", "--isolation", "chroot", "--format", "docker", "--tag", "corecast-tried", "--build-arg", "VERSION=tried",
            "--file", root / "container" / "Containerfile", root)
        # runc knows more kinds of control groups than crun. Health checks want systemd's timers: what they call is called below.
        runtime = ["--runtime", "runc"] if shutil.which("runc") else []
        podman = ["podman", *store, *runtime, "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        # Not more than this host may give, and than it takes.
        ulimits = []
        for name, enough in [("nofile", 1 << 20), ("nproc", 1 << 10), ("memlock", 256 << 20)]:
            most = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
            given = enough if most == resource.RLIM_INFINITY else min(enough, most)
            ulimits.append(f"--ulimit={name}={given}:{given}")
        start = ["--network", "none", "--no-healthcheck", *ulimits]
        image = json.loads(run(*podman, "image", "inspect", "corecast-tried"))[0]
        assert (image["User"], image["Labels"]["org.opencontainers.image.version"]) == ("65532:65532", "tried"), image

        def once(*options, words=()):
            command = [*podman, "run", "--rm", *start, *options, "corecast-tried", *words]
            return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)

        profile = ["--security-opt", f"seccomp={root}/container/corecast-seccomp.json", "--security-opt", "no-new-privileges"]
        confined = [*profile, "--cap-drop", "all", "--read-only"]
        unsaid = once(*confined)
        if unsaid.returncode in (125, 126, 127):
            raise Skipped(f"podman cannot run a container here: {unsaid.stderr.strip()[-300:]}")
        assert unsaid.returncode == 2 and "insecure" in unsaid.stderr, (unsaid.returncode, unsaid.stderr)
        bare = once("--env", "CORECAST_INSECURE=true", words=["check"])
        print(f"     under the default profile of this host: {bare.returncode} {bare.stderr.strip().splitlines()[:1]}")
        assert bare.returncode != 2 or "seccomp" in bare.stderr, bare.stderr
        run(*podman, "run", "--detach", "--name", "tried", *start, *confined, "--env", "CORECAST_INSECURE=true", "corecast-tried")
        try:
            inside = [*podman, "exec", "tried"]
            health = image["Healthcheck"]["Test"][1:]
            for _ in range(50):
                if healthy := subprocess.run([*inside, *health], capture_output=True).returncode == 0:
                    break
            assert healthy, run(*podman, "logs", "tried")
            run(*inside, "/usr/bin/corecast", "pub", "news", "hello, world")
            reads = [*inside, "/usr/bin/corecast", "sub", "--since", "earliest", "news"]
            with subprocess.Popen(reads, stdout=subprocess.PIPE, text=True) as reader:
                said = reader.stdout.readline()
                reader.kill()
            assert "hello, world" in said, said
        finally:
            logs = run(*podman, "logs", "tried")
            run(*podman, "stop", "--time", "20", "tried")
            status = run(*podman, "inspect", "--format", "{{.State.ExitCode}}", "tried").strip()
            run(*podman, "rm", "--force", "tried")
        assert status == "0", (status, logs)


def test_manifests(_):
    """The manifests are taken together by kubectl."""
    needs("kubectl")
    said = run("kubectl", "kustomize", ROOT / "packaging" / "kubernetes")
    assert said.count("\nkind: ") == 5, said


def test_unit(folder):
    """systemd takes the unit as it is installed, without a warning, and finds it locked."""
    needs("systemd-analyze")
    with unpacked(folder) as root, tempfile.TemporaryDirectory() as place:
        unit = (root / "systemd" / "corecast.service").read_text()
        file = pathlib.Path(place, "corecast.service")
        file.write_text(unit.replace("/usr/local/bin/corecast", str(root / "corecast")))
        said = run("systemd-analyze", "verify", "--man=no", file)
        assert "corecast" not in said, said
        rated = run("systemd-analyze", "security", "--offline=yes", "--no-pager", file)
        exposure = float(re.search(r"Overall exposure level for corecast.service: ([\d.]+)", rated).group(1))
        print(f"     exposure {exposure}")
        assert exposure < 2.0, rated


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    passed, failed, skipped = 0, 0, 0
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (len(sys.argv) > 2 and sys.argv[2] not in name):
            continue
        try:
            test(folder)
        except Skipped as reason:
            skipped += 1
            print(f"skip {name}: {reason}", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok   {name}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
