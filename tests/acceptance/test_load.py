"""The short form of `make load`: no job lost or doubled, no event missed, whatever the machine's speed. Times are none of a test's."""

from __future__ import annotations

from pathlib import Path

from benchmarks.service.dispatch import breaches, dispatch
from benchmarks.service.following import follow
from benchmarks.service.stack import stack


def test_under_load_no_job_is_lost_or_doubled_and_no_follower_misses_an_event(tmp_path: Path) -> None:
    with stack(tmp_path, durable=False) as made:
        dispatched = dispatch(made, jobs=30, workers=3, singles=2)
        lost = list(breaches(made, {"job_that_nobody_stored"}))
        followed = follow(made, followers=30, pollers=10, every_s=0.5, seconds=4.0, steps_per_s=5.0)

    assert dispatched.breaches == []
    assert "1 jobs are not there" in lost, "what looks for lost jobs finds one"
    assert followed.breaches == []
    assert followed.polls >= 10
    assert followed.events >= 5 * 4
