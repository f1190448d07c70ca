"""What a hostile program can do in the real sandbox: nothing that anyone outside would notice, and no passing."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cpd_engine.evaluation.confinement import FIRST_USER
from cpd_engine.evaluation.sandbox import Sandbox
from tests.deadline import eventually
from tests.integration.sandbox.naming import NAMED
from tests.sandboxed import asserting, outcome

ROOT = Path(__file__).resolve().parents[3]


def passes(sandbox: Sandbox, program: str, *tests: str) -> str:
    return outcome(sandbox.examine(program, asserting(*tests)))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine may read and write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text("hunter2", "utf-8")
        yield folder


def named(name: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["name"]) if process.info["name"] == name]


def test_a_right_program_passes_and_a_wrong_one_does_not(sandbox: Sandbox) -> None:
    assert passes(sandbox, "def f(x): return x + 1", "assert f(1) == 2", "assert f(-1) == 0") == "passed"
    assert passes(sandbox, "def f(x): return x - 1", "assert f(1) == 2", "assert f(-1) == 0") == "wrong answer"


def test_no_port_and_no_socket_of_this_machine_is_reached(sandbox: Sandbox) -> None:
    abstract = f"\0cpd-{secrets.token_hex(8)}"
    program = """
import socket
def f(family, address):
    try:
        with socket.socket(family) as s:
            s.settimeout(1)
            s.connect(address)
    except OSError as error:
        return "refused"
    return "reached"
"""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(abstract)
        local.listen()
        tests = [
            f"assert f({int(socket.AF_INET)}, {tcp.getsockname()!r}) == 'refused'",
            f"assert f({int(socket.AF_UNIX)}, {abstract!r}) == 'refused'",
            f"assert f({int(socket.AF_INET)}, ('192.0.2.1', 80)) == 'refused'",
        ]
        assert passes(sandbox, program, *tests) == "passed"


def test_no_file_of_this_machine_is_read(sandbox: Sandbox, open_folder: Path) -> None:
    program = """
import os
def f(paths):
    seen = []
    for path in paths:
        try:
            seen.append(os.listdir(path) if os.path.isdir(path) else open(path).read())
        except OSError:
            pass
    return seen
"""
    private = ["/etc/shadow", "/etc/passwd", "/proc/1/environ", "/proc/self/mounts", "/sys", "/var", "/run", "/home"]
    paths = [*private, str(ROOT / "README.md"), str(open_folder), str(open_folder / "secret")]

    assert passes(sandbox, program, f"assert f({paths!r}) == []") == "passed"


def test_no_variable_of_the_environment_is_read(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPD_JUDGE_API_KEY", "hunter2")
    program = "import os\ndef f(): return list(os.environ.values())"

    assert passes(sandbox, program, "assert 'hunter2' not in f()", "assert len(f()) < 8") == "passed"


def test_nothing_is_written_but_to_a_tmp_of_its_own_that_is_small_and_empty(
    sandbox: Sandbox, open_folder: Path
) -> None:
    program = """
import os, sys
def f(path):
    try:
        open(path, "w").write("x")
    except OSError:
        return False
    return True
def fill():
    written = 0
    for n in range(1000):
        try:
            with open(f"/tmp/{n}", "wb") as file:
                written += file.write(bytes(2**20))
        except OSError:
            break
    return written
def left(): return os.listdir("/tmp")
def library(): return f(os.__file__), f(sys.executable), f("/packages/numpy/x")
"""
    places = ["/x", "/usr/lib/x", "/etc/x", "/dev/x", str(open_folder / "x"), str(ROOT / "x")]
    tests = [
        "assert left() == []",
        f"assert [p for p in {places!r} if f(p)] == []",
        "assert f('/tmp/x')",
        "assert library() == (False, False, False)",
        "assert fill() < 70 * 2**20",
    ]
    found = [sandbox.examine(program, asserting(*tests, names=("f", "left", "fill", "library"))) for _ in range(2)]

    assert [outcome(each) for each in found] == ["passed", "passed"]
    assert [path.name for path in open_folder.iterdir()] == ["secret"]


def test_a_fork_bomb_stays_small_and_nothing_of_it_remains(sandbox: Sandbox) -> None:
    name = f"cpd-{secrets.token_hex(4)}"
    program = (
        NAMED
        + f"""
import os
def f():
    become({name!r})
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
    )
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(passes(sandbox, program, "assert f() is None")))
    thread.start()
    eventually(lambda: len(named(name)) >= 2, within_s=20.0, what="the bomb")
    most = len(named(name))
    thread.join()

    assert found == ["timeout"]
    assert most <= sandbox.limits.processes
    assert named(name) == []


def test_a_program_runs_as_a_user_that_is_not_root(sandbox: Sandbox) -> None:
    name = f"cpd-{secrets.token_hex(4)}"
    thread = threading.Thread(
        target=lambda: passes(sandbox, f"{NAMED}\nimport time\ndef f(): become({name!r}); time.sleep(9)", "assert f()")
    )
    thread.start()
    eventually(lambda: bool(named(name)), within_s=20.0, what="the program")
    [process] = named(name)
    user, score = process.uids().real, Path(f"/proc/{process.pid}/oom_score_adj").read_text("utf-8")
    thread.join()

    assert user == os.getuid() if os.getuid() else user >= FIRST_USER
    assert int(score) == 1000


def test_a_memory_bomb_goes_off_in_the_sandbox(sandbox: Sandbox) -> None:
    grows = "def f():\n    kept = []\n    while True: kept.append(bytearray(2**24))"
    swells = "def f(): return 'x' * 2**40"

    assert passes(sandbox, grows, "assert f()") in ("MemoryError", "crashed")
    assert passes(sandbox, swells, "assert f()") == "MemoryError"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f():\n    while True: pass", "timeout"),
        ("while True: pass", "timeout"),
        ("import time\ndef f(): time.sleep(10**6)", "timeout"),
        ("def f():\n    while True: print('passed' * 1000)", "timeout"),
        ("import sys\ndef f():\n    while True: sys.stderr.write('x' * 10**6)", "timeout"),
        ("def f():\n    yield from iter(int, 1)", "wrong answer"),
        (
            "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\nwhile True: pass",
            "timeout",
        ),
    ],
)
def test_what_does_not_end_is_ended(sandbox: Sandbox, program: str, reason: str) -> None:
    assert passes(sandbox, program, "assert list(f()) == [1]") == reason


def test_an_answer_without_end_is_cut(sandbox: Sandbox) -> None:
    program = """
import os
def f():
    for fd in range(3, 64):
        try:
            while True: os.write(fd, b"x" * 65536)
        except OSError:
            pass
"""

    assert passes(sandbox, program, "assert f() is None") in ("answer too large", "crashed", "timeout")


def test_ten_gigabytes_of_output_are_kept_by_nobody(sandbox: Sandbox) -> None:
    program = """
import os
def f():
    piece = bytes(2**20)
    for fd in (1, 2):
        for _ in range(5 * 1024):
            os.write(fd, piece)
    return 1
"""
    here, free = psutil.Process(), shutil.disk_usage(tempfile.gettempdir()).free
    before = here.memory_info().rss

    assert passes(sandbox, program, "assert f() == 1") in ("passed", "timeout")
    assert here.memory_info().rss - before < 2**28
    assert free - shutil.disk_usage(tempfile.gettempdir()).free < 5 * 2**30


def test_no_process_of_this_machine_is_seen(sandbox: Sandbox) -> None:
    program = """
import os
def f(others):
    seen = []
    for pid in others:
        for place in (f"/proc/{pid}", f"/proc/{pid}/cmdline", f"/proc/{pid}/root/etc/passwd", f"/proc/{pid}/environ"):
            try:
                seen.append(os.listdir(place) if os.path.isdir(place) else open(place).read())
            except OSError:
                pass
    return seen
"""
    others = [os.getpid(), os.getppid(), 1, *psutil.pids()[:50]]

    assert passes(sandbox, program, f"assert f({others!r}) == []") == "passed"


@pytest.mark.parametrize("target", ["1", "os.getppid()", "-1", "0", "os.getpid()"])
def test_killing_what_it_can_reach_kills_the_program_alone(sandbox: Sandbox, target: str) -> None:
    program = (
        f"import os, signal, time\ndef f():\n    os.kill({target}, signal.SIGKILL)\n    time.sleep(1)\n    os._exit(0)"
    )

    assert passes(sandbox, program, "assert f() is None") in ("crashed", "ProcessLookupError")
    assert passes(sandbox, "def f(): return 1", "assert f() == 1") == "passed"


FORGED = '{"nonce": "", "suites": {"base": {"tests": 1, "failed": 0, "reason": null}}, "unusable": null}'


@pytest.mark.parametrize(
    "program",
    [
        "print('passed')",
        "import sys; sys.exit(0)",
        "raise SystemExit",
        "import os; os._exit(0)",
        "import os\ndef f(x): os._exit(0)",
        "import sys\ndef f(x): sys.exit(0)",
        "def f(x): raise SystemExit(0)",
        f"import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'''{FORGED}\\n''')\n    except OSError: pass\nos._exit(0)",
        f"import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'''{FORGED}\\n''')\n    except OSError: pass\ndef f(x): return 0",
        "open('/tmp/result.json', 'w').write('passed')",
        "class Anything:\n    def __eq__(self, other): return True\n    def __hash__(self): return 2\ndef f(x): return Anything()",
        "class Number(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef f(x): return Number(7)",
        "import builtins\nbuiltins.AssertionError = ZeroDivisionError\nbuiltins.all = builtins.any = lambda *a: True\ndef f(x): return 0",
        "import sys\nfor name in list(sys.modules): sys.modules.pop(name)\ndef f(x): return 0",
        "import json\njson.dumps = lambda *a, **k: '{\"value\": true}'\ndef f(x): return 0",
        "import json\njson.dumps = lambda *a, **k: '{\"suites\": {}}'\ndef f(x): return 0",
        "from cpd_engine.evaluation.guests import program, wire\nwire.packed = program.packed = lambda *a: True\ndef f(x): return 0",
        "import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'failed' in o: o['failed'] = 0\ndef f(x): return 0",
        "import sys\nsys.settrace(lambda *a: None)\nimport os\nos.read = os.write = lambda *a: b'passed'\ndef f(x): return 0",
        "import os\nif os.fork(): os._exit(0)\ndef f(x): return 0",
    ],
)
def test_no_trick_passes_for_an_answer(sandbox: Sandbox, program: str) -> None:
    found = sandbox.examine(program, asserting("assert f(1) == 2", "assert f(2) == 3"))

    assert not found.passed
    assert not found.cut_off
    assert found.suites["base"].failed > 0


def test_a_program_is_not_shown_its_tests(sandbox: Sandbox) -> None:
    program = """
import gc, os, sys
def f():
    found = [o for o in gc.get_objects() if isinstance(o, (str, list, tuple, dict))]
    wanted = bytes.fromhex("736573616d65").decode()
    return [str(o)[:200] for o in found if wanted in str(o)[:100000]] + [a for a in sys.argv if wanted in a]
"""
    assert passes(sandbox, program, "assert f() == [], 'sesame'") == "passed"


def test_threads_and_daemons_end_with_the_examination(sandbox: Sandbox) -> None:
    name = f"cpd-{secrets.token_hex(4)}"
    program = (
        NAMED
        + f"""
import os, signal, threading, time
def loop():
    while True: time.sleep(0.01)
def f():
    become({name!r})
    for daemon in (True, False):
        threading.Thread(target=loop, daemon=daemon).start()
    if not os.fork():
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if not os.fork():
            for fd in range(64):
                try: os.close(fd)
                except OSError: pass
            loop()
        os._exit(0)
    os.wait()
    time.sleep(1)
    return 1
"""
    )
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(passes(sandbox, program, "assert f() == 1")))
    thread.start()
    eventually(lambda: len(named(name)) >= 2, within_s=20.0, what="the daemon")
    thread.join()

    assert found == ["passed"]
    assert named(name) == []


def test_no_namespace_is_made_inside(sandbox: Sandbox) -> None:
    program = "import ctypes\ndef f(flags): return ctypes.CDLL(None).unshare(flags)"
    tests = [f"assert f({flag}) == -1" for flag in ("0x10000000", "0x20000", "0x40000000")]

    assert passes(sandbox, program, *tests) == "passed"


ENGINE = """
import sys
from cpd_engine.evaluation.sandbox import Sandbox
from tests.sandboxed import asserting
sandbox = Sandbox.open()
sandbox.examine(sys.argv[1], asserting("assert f()"))
"""


def test_the_death_of_the_engine_is_that_of_the_program(sandbox: Sandbox) -> None:
    name = f"cpd-{secrets.token_hex(4)}"
    program = f"{NAMED}\nimport time\ndef f(): become({name!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", ENGINE, program], cwd=ROOT) as engine:
        eventually(lambda: bool(named(name)), within_s=30.0, what="the program")
        engine.send_signal(signal.SIGKILL)
    eventually(lambda: not named(name), within_s=5.0, what="the end of the program")
