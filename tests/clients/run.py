"""Runs the tests of this folder against an engine: `python run.py BINARY [WORD]`. Last line: `N passed, N failed`."""

import importlib
import pathlib
import signal
import subprocess
import sys
import time
import traceback

import engine

# Longest time of one test in seconds; each has its own deadlines far below.
TEST_SECONDS = 90


def tests(word):
    """Finds the tests in the order of their files."""
    for path in sorted(pathlib.Path(__file__).parent.glob("with_*.py")):
        module = importlib.import_module(path.stem)
        for name, function in vars(module).items():
            if name.startswith("test_") and word in f"{path.stem}.{name}":
                assert function.__doc__, f"{name} does not say what it shows"
                yield f"{path.stem}.{name}", function


def out_of_time(*_):
    raise TimeoutError(f"the test took more than {TEST_SECONDS} s")


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: run.py BINARY [WORD]")
    engine.Engine.binary = str(pathlib.Path(sys.argv[1]).resolve())
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    print(subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0])
    signal.signal(signal.SIGALRM, out_of_time)
    passed, failed = 0, []
    shared = None
    for name, test in tests(word):
        start = time.monotonic()
        signal.alarm(TEST_SECONDS)
        try:
            if shared is None or shared.process.poll() is not None:
                shared = engine.Engine("--shards", "2", "--echo")
            test(shared)
            code = shared.process.poll()
            assert code is None, f"the engine ended with {code}: {''.join(shared.errors)[-2000:]}"
        except Exception:
            failed.append(name)
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"ok   {name} ({time.monotonic() - start:.2f} s)", flush=True)
        finally:
            signal.alarm(0)
    if shared is not None and shared.process.poll() is None:
        shared.stop()
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
