"""Several ranks are one process to whoever started them: its signal reaches all, and the end of one is the end of all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from cpd_engine.errors import ResourcesUnavailable
from cpd_engine.launch import check_place, check_world, devices
from tests.deadline import eventually

# What each rank does. `say` writes an event; a rank's file `ready-<rank>` says that it listens.
RANK = """
import json, os, signal, sys, threading, time
from pathlib import Path
from cpd_engine import watchdog
rank = int(os.environ["RANK"])
events = os.fdopen(int(sys.argv[sys.argv.index("--events-fd") + 1]), "w", buffering=1)
say = lambda kind, **more: events.write(json.dumps({**more, "kind": kind}) + "\\n")
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
watchdog.watch_stdin()
Path(f"ready-{rank}").write_text(str(os.getpid()))
"""
LAUNCHER = """
import sys
from cpd_engine import watchdog
from cpd_engine.launch import end_like, launch
watchdog.watch_stdin()
sys.exit(end_like(launch([sys.executable, "-c", sys.argv[1]], int(sys.argv[2]), events=sys.stdout.buffer)))
"""
ROOT = Path(__file__).resolve().parents[2]
Launch = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a launcher in a session of its own, at work in the test's folder; what is left of it goes with the test."""
    with ExitStack() as started:

        def start(program: str, count: int = 2) -> subprocess.Popen[bytes]:
            process = started.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LAUNCHER, RANK + program, str(count)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=tmp_path,
                    env=os.environ | {"PYTHONPATH": str(ROOT)},
                    start_new_session=True,
                )
            )
            started.callback(process.kill)
            return process

        yield start


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """The exit code and what was said; its stdin, which is the watchdog, stays open until then."""
    assert process.stdout is not None
    output = process.stdout.read()
    return process.wait(), output


def kinds(output: bytes) -> list[str]:
    return [json.loads(line)["kind"] for line in output.splitlines()]


def pids(folder: Path, count: int = 2) -> list[int]:
    """The ranks' process ids, once they all listen."""
    eventually(lambda: len(list(folder.glob("ready-*"))) == count, within_s=60, what="the ranks")
    return [
        int(eventually((folder / f"ready-{rank}").read_text, within_s=60, what="a rank's id")) for rank in range(count)
    ]


def dead(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_each_rank_knows_its_place_and_only_the_first_is_heard(tmp_path: Path, launch: Launch) -> None:
    program = """
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
Path(f"place-{rank}").write_text(" ".join(os.environ[name] for name in names))
say("measured", rank=rank)
while rank == 0 and len(list(Path().glob("place-*"))) < 3: time.sleep(0.01)
say("finished")
"""
    _, output = ended(launch(program, 3))
    assert kinds(output) == ["measured", "finished"]
    assert [(tmp_path / f"place-{rank}").read_text() for rank in range(3)] == [
        f"{r} {r} 3 3 127.0.0.1" for r in range(3)
    ]


def test_the_run_lasts_as_long_as_its_first_rank(tmp_path: Path, launch: Launch) -> None:
    program = (
        "if rank:\n    sys.exit(10)\nos.read(0, 0)\nwhile not Path('go').exists(): time.sleep(0.01)\nsay('finished')"
    )
    process = launch(program)
    second = pids(tmp_path)[1]
    eventually(lambda: dead(second), within_s=60, what="the end of the second rank")
    assert process.poll() is None
    (tmp_path / "go").touch()
    code, output = ended(process)
    assert (code, kinds(output)) == (0, ["finished"])


@pytest.mark.parametrize("failing", [0, 1])
def test_the_first_rank_to_fail_gives_its_code_and_its_reason(tmp_path: Path, launch: Launch, failing: int) -> None:
    # The other one, left alone, crashes without a word: that is not the reason.
    program = f"""
say("measured")
if rank == {failing}:
    say("failed", code="diverged")
    os._exit(20)
while not Path("go").exists() and os.getppid() != 1: time.sleep(0.01)
sys.exit(1)
"""
    code, output = ended(launch(program))
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["kind"] for event in events if event["kind"] == "failed"] == ["failed"]
    assert events[-1] == {"code": "diverged", "kind": "failed"}
    assert code == 20


def test_a_crash_that_follows_from_a_failure_does_not_hide_it(tmp_path: Path, launch: Launch) -> None:
    # The first rank notices the loss before the second has told why.
    program = """
if rank == 0:
    sys.exit(1)
while not dead(): time.sleep(0.01)
say("failed", code="insufficient_storage")
os._exit(20)
"""
    helper = """
def dead():
    try:
        return Path(f"/proc/{Path('ready-0').read_text()}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, IndexError):
        return Path("ready-0").exists()
"""
    code, output = ended(launch(helper + program))
    assert (code, json.loads(output)["code"]) == (20, "insufficient_storage")


def test_a_crash_without_a_reason_ends_the_others_soon(tmp_path: Path, launch: Launch) -> None:
    assert ended(launch("if rank: sys.exit(3)\ntime.sleep(600)")) == (3, b"")
    assert all(map(dead, pids(tmp_path)))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_takes_the_run_along_and_shows_the_signal(
    tmp_path: Path, launch: Launch, victim: int
) -> None:
    process = launch("time.sleep(600)")
    ranks = pids(tmp_path)
    os.kill(ranks[victim], signal.SIGKILL)
    assert ended(process)[0] == -signal.SIGKILL
    assert all(map(dead, ranks))


def test_one_sigterm_reaches_every_rank_and_the_code_of_the_first_is_that_of_all(
    tmp_path: Path, launch: Launch
) -> None:
    program = """
while not stop.wait(0.02): pass
Path(f"stopped-{rank}").touch()
while len(list(Path().glob("stopped-*"))) < 2: time.sleep(0.01)
if rank == 0: say("stopped")
sys.exit(10)
"""
    process = launch(program)
    pids(tmp_path)
    process.terminate()
    code, output = ended(process)
    assert (code, kinds(output)) == (10, ["stopped"])


@pytest.mark.parametrize("how", ["SIGKILL", "end of file"])
def test_no_rank_outlives_the_launcher_nor_whoever_started_it(tmp_path: Path, launch: Launch, how: str) -> None:
    process = launch("time.sleep(600)")
    ranks = pids(tmp_path)
    if how == "SIGKILL":
        process.kill()
    else:
        assert process.stdin is not None
        process.stdin.close()
    process.wait()
    eventually(lambda: all(map(dead, ranks)), within_s=1.0, what="the ranks' end")


def test_a_machine_has_a_place_for_each_visible_gpu_or_for_each_core(tmp_path: Path) -> None:
    assert devices({}, folder=tmp_path) == len(os.sched_getaffinity(0))
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert devices({}, folder=tmp_path) == 3
    assert devices({"CUDA_VISIBLE_DEVICES": "1, 2"}, folder=tmp_path) == 2
    assert devices({"CUDA_VISIBLE_DEVICES": ""}, folder=tmp_path) == len(os.sched_getaffinity(0))


def test_what_one_machine_cannot_do_is_refused() -> None:
    check_place(2, 1, 2)
    check_world(4, 4)
    with pytest.raises(ResourcesUnavailable, match="3 asked and 2 here"):
        check_place(3, 1, 2)
    with pytest.raises(ResourcesUnavailable, match="torchrun"):
        check_place(1, 2, 2)
    with pytest.raises(ResourcesUnavailable, match="is 4, and 2 processes"):
        check_world(4, 2)
