"""An authority of the test's own, and what it signs: certificates for engines and for clients, in a temporary folder."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import threading

from engine import Engine, eventually

KINDS = {
    "ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    "rsa": ["-newkey", "rsa:2048"],
    "ed25519": ["-newkey", "ed25519"],
}

# None of the extensions that a distribution's openssl adds by itself.
CONFIGURATION = """
[req]
distinguished_name = name
[name]
"""


def openssl(*arguments, check=True, **options):
    """Runs openssl and returns what it said."""
    options = {"input": b"", "timeout": 30, **options}
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, **options)
    assert not check or done.returncode == 0, (arguments, done.stderr.decode())
    return done


class Pair:
    """A certificate and its key: paths of PEM files."""

    def __init__(self, certificate, key):
        self.certificate, self.key = certificate, key

    @property
    def flags(self):
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]

    @property
    def serial(self):
        """Returns what tells it from others, as openssl writes it."""
        return openssl("x509", "-noout", "-serial", "-in", self.certificate).stdout.decode().strip()


class Authority:
    """Signs; `with` removes all it has made."""

    def __init__(self, name="corecast tests"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corecast-tls-"))
        self.folder.chmod(0o755)
        self.configuration = self.folder / "openssl.cnf"
        self.configuration.write_text(CONFIGURATION)
        self.certificate, self.key = self.folder / "authority.pem", self.folder / "authority.key"
        self._request("ecdsa", self.certificate, self.key, f"/CN={name}", 30, "basicConstraints=critical,CA:TRUE")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def _request(self, kind, certificate, key, subject, days, *extensions):
        extensions = [word for extension in extensions for word in ("-addext", extension)]
        openssl(
            "req", "-x509", "-config", self.configuration, *KINDS[kind], "-nodes", "-days", days, "-subj", subject,
            *extensions, "-out", certificate, "-keyout", key,
        )  # fmt: skip

    def issue(self, file, *names, kind="ecdsa", days=30, purpose="serverAuth"):
        """Makes a certificate for these names, the first of which is its subject, too; in files called `file`."""
        certificate, key = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        alternatives = ",".join(f"IP:{name}" if re.fullmatch(r"[\d.]+", name) else f"DNS:{name}" for name in names)
        request = self.folder / "request.pem"
        openssl(
            "req", "-new", "-config", self.configuration, *KINDS[kind], "-nodes", "-subj", f"/CN={names[0]}",
            "-out", request, "-keyout", key,
        )  # fmt: skip
        extensions = self.folder / "extensions"
        extensions.write_text(
            f"basicConstraints=critical,CA:FALSE\nextendedKeyUsage={purpose}\nsubjectAltName={alternatives}\n"
        )
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial",
            "-days", days, "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return Pair(certificate, key)


class Secure(Engine):
    """An engine that listens with TLS beside a plain listener."""

    def __init__(self, *flags, pairs=(), **options):
        shown = [flag for pair in pairs for flag in pair.flags]
        super().__init__("--listen", "tls://127.0.0.1:0", *shown, *flags, **options)
        self.tls_port = int(re.search(r"listening on https://[\d.]+:(\d+)", self.greeting).group(1))

    @property
    def tls_url(self):
        """Returns the address by the name that certificates of `localhost` are for."""
        return f"https://localhost:{self.tls_port}"


class Shown:
    """One openssl s_client, asked by lines; `with` ends it. What it says is gathered in `text`."""

    def __init__(self, engine, *arguments, authority=None, name="localhost"):
        trusted = ["-CAfile", str(authority.certificate), "-verify_return_error"] if authority else []
        named = ["-servername", name] if name else ["-noservername"]
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{engine.tls_port}", *named, *trusted]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.data = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while piece := self.process.stdout.read1(1 << 16):
            self.data += piece

    @property
    def text(self):
        return self.data.decode("latin-1")

    def says(self, word, times=1):
        eventually(lambda: self.text.count(word) >= times, f"s_client says {word!r} {times} times: {self.text[-3000:]}")
        return self

    def types(self, text):
        """Types something; a command has to be all that it reads at once."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self):
        """Ends its input, waits until it is over, and returns what it said and its status."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        status = self.process.wait(15)
        self.reader.join(5)
        return self.text, status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
