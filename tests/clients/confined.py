"""A program under a seccomp profile, as a container runtime puts it there: the profile becomes a filter of the kernel, without a container."""

import ctypes
import json
import pathlib
import platform
import re
import struct

ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
# seccomp(2): where a filter finds the number of the call, the architecture, and the arguments, of which it sees the lower half.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
X86_64 = 0xC000003E
# bpf(4): load a word, jump if equal, mask, return.
LOAD, EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06
# prctl(2).
SET_SECCOMP, MODE_FILTER, NO_NEW_PRIVILEGES = 22, 2, 38
HEADERS = ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"]


def numbers():
    """Returns the numbers of all calls by name, as the kernel's headers have them; they come with every C compiler."""
    assert platform.machine() == "x86_64", "the filter is made for x86_64"
    [header, *_] = [pathlib.Path(path) for path in HEADERS if pathlib.Path(path).exists()]
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}


def program(profile):
    """Makes the filter of a profile in Docker's form."""
    known = numbers()
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, X86_64), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    for rule in profile["syscalls"]:
        assert rule["action"] == "SCMP_ACT_ALLOW", rule
        for name in rule["names"]:
            if name not in known:
                continue
            body = [(RETURN, 0, 0, ALLOW)]
            if "args" in rule:
                # A rule here asks about one argument at most. If it is another, the next rule is asked, about the call again.
                [test] = rule["args"]
                masked = test["op"] == "SCMP_CMP_MASKED_EQ"
                assert masked or test["op"] == "SCMP_CMP_EQ", test
                mask = [(AND, 0, 0, test["value"])] if masked else []
                wanted = test["valueTwo"] if masked else test["value"]
                argument = (LOAD, 0, 0, ARGUMENTS + 8 * test["index"])
                body = [argument, *mask, (EQUAL, 0, 1, wanted), *body, (LOAD, 0, 0, NUMBER)]
            steps += [(EQUAL, 0, len(body), known[name]), *body]
    steps.append((RETURN, 0, 0, ERRNO | profile["defaultErrnoRet"]))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def confine(profile):
    """Returns what a child process calls before it becomes the program: from then on it may do what the profile allows."""
    code = ctypes.create_string_buffer(program(profile))

    class Filter(ctypes.Structure):
        _fields_ = [("steps", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    filter = Filter(len(code.raw) // 8, ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)

    def enter():
        for arguments in [(NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, MODE_FILTER, ctypes.byref(filter), 0, 0)]:
            if libc.prctl(*arguments) != 0:
                raise OSError(ctypes.get_errno(), f"prctl{arguments}")

    # The child has a copy of these, as long as they are named.
    enter.kept = (code, filter)
    return enter


def load(path):
    return json.loads(pathlib.Path(path).read_text())
