"""`python -m benchmarks.service`: the service under load. Exits 1 where a job was lost or doubled or a follower missed an event.

Parts: `dispatch` (many jobs, many workers), `follow` (one job that many follow, while others poll), `record` (writing and reading
series, beside MLflow's tracking server where --mlflow names the interpreter of an environment that has it).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.service.dispatch import dispatch
from benchmarks.service.following import follow
from benchmarks.service.peer import peer, tracking
from benchmarks.service.recording import Recorded, record
from benchmarks.service.results import Circumstances, text, write
from benchmarks.service.stack import Stack, stack

RESULTS = Path(__file__).with_name("results")
PARTS = ("dispatch", "follow", "record")
# Jobs that find every worker idle, one after the other.
SINGLES = 100
# Finished jobs that the pollers ask for.
POLLED = 20
STEPS_PER_S = 2.0
STEPS = 5000
# A call a step is slow enough to be measured by fewer.
STEPS_OF_CALLS = 300
READS = 30
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of it."""

    jobs: int
    workers: int
    followers: int
    pollers: int
    every_s: float
    seconds: float


def main() -> int:
    """Parse, run each part on servers of its own, write and tell."""
    given = _arguments()
    size = Size(
        jobs=given.jobs,
        workers=given.workers,
        followers=given.followers,
        pollers=given.pollers,
        every_s=given.every,
        seconds=given.seconds,
    )
    parts: dict[str, Callable[[Stack], tuple[Sequence[object], Sequence[str]]]] = {
        "dispatch": lambda made: _dispatched(made, size),
        "follow": lambda made: _followed(made, size),
        "record": lambda made: (list(_recorded(made, given.mlflow)), ()),
    }
    broken = False
    for part in given.parts:
        circumstances = Circumstances.now(datetime.now(UTC), _mlflow(given.mlflow))
        with tempfile.TemporaryDirectory(prefix="cpd-load-") as folder, stack(Path(folder), durable=True) as made:
            found, breaches = parts[part](made)
        write(given.out / f"{part}.csv", found, circumstances)  # type: ignore[arg-type]  # each is a dataclass
        for one in found:
            print(part, text(one), sep="\n", flush=True)  # type: ignore[arg-type]  # the same
        print("\n".join(breaches))
        broken = broken or bool(breaches)
    return int(broken)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=20)
    parser.add_argument("--followers", type=int, default=500)
    parser.add_argument("--pollers", type=int, default=200)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from a poller's question to its next")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--mlflow", type=Path, help="interpreter of an environment with MLflow")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args()


def _dispatched(made: Stack, size: Size) -> tuple[Sequence[object], Sequence[str]]:
    found = dispatch(made, jobs=size.jobs, workers=size.workers, singles=SINGLES)
    return [found], found.breaches


def _followed(made: Stack, size: Size) -> tuple[Sequence[object], Sequence[str]]:
    dispatch(made, jobs=POLLED, workers=1, singles=0)
    found = follow(
        made,
        followers=size.followers,
        pollers=size.pollers,
        every_s=size.every_s,
        seconds=size.seconds,
        steps_per_s=STEPS_PER_S,
    )
    return [found], found.breaches


def _recorded(made: Stack, mlflow: Path | None) -> Iterator[Recorded]:
    """Ours and the peer's by turns, so that what else the machine does meets both."""
    dispatch(made, jobs=1, workers=1, singles=0)
    with ExitStack() as running:
        # Not resolved: a link's target would be an interpreter without the environment.
        python = None if mlflow is None else mlflow.absolute()
        served = None if python is None else running.enter_context(tracking(made, python))
        for _ in range(ROUNDS):
            yield record(made, steps=STEPS, reads=READS)
            if python is not None and served is not None:
                yield peer(made, python, *served, steps=STEPS, batch=1000, reads=READS)
                yield peer(made, python, *served, steps=STEPS_OF_CALLS, batch=9, reads=READS)


def _mlflow(python: Path | None) -> dict[str, str]:
    if python is None:
        return {}
    words = [str(python), "-c", "from importlib.metadata import version; print(version('mlflow'))"]
    return {"mlflow": subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()}


if __name__ == "__main__":
    sys.exit(main())
