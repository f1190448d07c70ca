"""Workers whose clocks are an hour off, either way: every time that decides anything is the database's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.core.db import reading, utc_now
from api.jobs.states import JobState
from tests.deadline import eventually
from tests.integration.worker.fleet import Fleet, assert_as_unbroken, engine_of, gone

ROOT = Path(__file__).resolve().parents[3]
COMPILER = shutil.which("cc")
# Adds the seconds in CLOCK_OFF to the time of day, and leaves alone the clock by which everything waits.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long off(void) { const char *s = getenv("CLOCK_OFF"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
  return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  now->tv_sec = at.tv_sec;
  now->tv_usec = at.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *now) {
  struct timespec at;
  clock_gettime(CLOCK_REALTIME, &at);
  if (now) *now = at.tv_sec;
  return at.tv_sec;
}
"""


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A library that sets the clock of processes that are started with it."""
    if COMPILER is None:
        pytest.skip("wants a C compiler to set a clock wrong: apt-get install gcc libc6-dev")
    source, built = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(SHIM)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(built), str(source), "-ldl"], check=True)
    said = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env={**os.environ, "LD_PRELOAD": str(built), "CLOCK_OFF": "3600"},
        capture_output=True,
        check=True,
    )
    assert float(said.stdout) - time.time() > 3000
    return built


def test_nothing_that_decides_reads_the_clock_of_its_machine() -> None:
    asked = re.compile(r"\b(datetime\.now|utcnow|time\.time|time_ns|date\.today)\b")
    sources = [
        path
        for package in ("worker", "api/jobs", "api/events", "api/artifacts")
        for path in (ROOT / package).rglob("*.py")
    ]
    assert len(sources) > 30
    assert not [path.name for path in sources if asked.search(path.read_text("utf-8"))]


# A SQLite file has the clock of the one machine that it lies on.
@pytest.mark.parametrize("backend", ["postgres"], indirect=True)
def test_a_worker_whose_clock_is_off_keeps_its_job_loses_it_and_takes_one_like_any_other(
    fleet: Fleet, shim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    gate = fleet.folder / "gate"
    job_id = fleet.submit(steps="20", gate_step="13", gate=str(gate), deaf="yes")
    monkeypatch.setenv("CLOCK_OFF", "3600")
    fleet.start()
    fleet.wait_sealed(job_id, "step-000010")
    monkeypatch.setenv("CLOCK_OFF", "-3600")
    fleet.start()
    eventually(lambda: fleet.logs().count("worker_started") == 2, within_s=60, what="the second worker's start")

    # Neither takes the other's lease for over, and heartbeats go by the database's clock.
    beaten = fleet.job(job_id).heartbeat_at
    eventually(lambda: fleet.job(job_id).heartbeat_at != beaten, within_s=30, what="a heartbeat")
    job = fleet.job(job_id)
    with reading(fleet.backend.make) as session:
        now = utc_now(session)
    assert job.heartbeat_at is not None
    assert abs((now - job.heartbeat_at).total_seconds()) < 60
    assert (job.fence, job.losses) == (1, 0)

    engine = engine_of(fleet.workers[0])
    fleet.workers[0].kill()
    eventually(lambda: gone(engine.pid), within_s=10, what="the engine's end")
    eventually(lambda: fleet.job(job_id).fence == 2, within_s=60, what="the second claim")
    gate.touch()
    fleet.wait_state(job_id, JobState.SUCCEEDED)
    assert_as_unbroken(fleet, job_id, 20)
