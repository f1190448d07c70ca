"""`python -m benchmarks.engine`: compare training loops, each variant in a process of its own. README.md tells the rest."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.engine import job, short
from benchmarks.engine.comparison import VARIANTS, Measured, measure
from benchmarks.engine.conditions import conditions
from benchmarks.engine.job import JobCost
from benchmarks.engine.models import PAIRS
from benchmarks.engine.processes import measured_apart
from benchmarks.engine.report import JobRow, job_table, rows, table, write
from benchmarks.engine.setting import Setting
from benchmarks.engine.workload import Order

RESULTS = Path(__file__).parent / "results"
# Pair and batches of every comparison of `make bench`.
COMPARISONS: tuple[tuple[str, Order], ...] = (
    ("gpt2", "random"),
    ("gpt2", "sorted"),
    ("qwen2", "random"),
    ("qwen2", "sorted"),
    ("gpt2-large-teacher", "random"),
)


def main(argv: list[str] | None = None) -> int:
    """`compare` starts a process for each variant, which calls `variant`."""
    asked = _parser().parse_args(argv)
    match asked.command:
        case "variant":
            setting = Setting(
                pair=PAIRS[asked.pair], order=asked.order, steps=asked.steps, threads=asked.threads, seed=asked.seed
            )
            asked.out.write_text(json.dumps(dataclasses.asdict(measure(asked.name, setting))), encoding="utf-8")
        case "compare":
            compare(asked)
        case "job":
            compare_jobs(asked)
        case "job-once":
            asked.out.write_text(json.dumps(dataclasses.asdict(run_job(asked))), encoding="utf-8")
        case "short":
            return check(record=asked.record)
    return 0


def compare(asked: argparse.Namespace) -> None:
    """Measure, keep the CSV after every comparison, print the table."""
    here = conditions(datetime.now(UTC))
    measured: list[Measured] = []
    for pair, order in asked.only or COMPARISONS:
        for _ in range(asked.rounds):
            for name in asked.variants:
                words = ["variant", name, "--pair", pair, "--order", order, "--steps", str(asked.steps)]
                words += ["--seed", str(asked.seed)]
                one = Measured(**measured_apart(words, asked.threads))
                print(f"{pair} {order} {name}: {one.cpu_s:.2f} CPU s, {one.added_bytes / 1e6:,.0f} MB", flush=True)
                measured.append(one)
        write(asked.out, rows(measured), here)
    print(table(rows(measured)))
    print(f"kept in {asked.out}")


def check(*, record: bool) -> int:
    """1 where the engine's lead over the plain way has shrunk; `record` keeps what is found instead of judging it."""
    here = conditions(datetime.now(UTC))
    torch.set_num_threads(1)
    if record:
        found = short.recorded_ratios(short.works())
        short.write(short.Kept(machine=here.machine, commit=here.commit, ratios=found))
        print(f"kept in {short.KEPT}: {found}")
        return 0
    wanted = short.wanted_here(short.read(), here.machine)
    found = short.least_ratios(short.works(), wanted)
    for name, ratio in found.items():
        print(f"{name}: {ratio:.2f} times less CPU time than the plain way, at least {wanted[name]:.2f} wanted")
    fallen = short.fallen(found, wanted)
    for told in fallen.values():
        print(told, file=sys.stderr)
    return 1 if fallen else 0


def compare_jobs(asked: argparse.Namespace) -> None:
    """The whole job with and without kept states: print both and their ratio, keep the CSV."""
    costs: list[JobCost] = []
    for curriculum in job.CURRICULA:
        words = ["job-once", "--curriculum", curriculum, "--epochs", str(asked.epochs)]
        off, kept = (
            JobCost(**measured_apart([*words, "--cache", cache], asked.threads)) for cache in ("off", asked.cache)
        )
        print(job_table(off, kept), flush=True)
        costs += [off, kept]
    write(asked.out, [JobRow.of(cost) for cost in costs], conditions(datetime.now(UTC)))
    print(f"kept in {asked.out}")


def run_job(asked: argparse.Namespace) -> JobCost:
    """One of them, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return job.run(
            asked.cache, Path(folder), curriculum=asked.curriculum, epochs=asked.epochs, threads=asked.threads
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("variant", help="measure one variant in this process")
    one.add_argument("name", choices=VARIANTS)
    one.add_argument("--pair", choices=PAIRS, required=True)
    one.add_argument("--order", choices=("random", "sorted"), required=True)
    one.add_argument("--out", type=Path, required=True)
    every = commands.add_parser("compare", help="measure all variants, each in a process of its own")
    every.add_argument("--only", type=_comparison, action="append", metavar="PAIR/ORDER", help="default: all of them")
    every.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    every.add_argument("--rounds", type=int, default=1, help="times that all variants are run; the best one counts")
    every.add_argument("--out", type=Path, default=RESULTS / "training.csv")
    small = commands.add_parser("short", help="fail where the engine's lead is 15 percent smaller than it was")
    small.add_argument("--record", action="store_true", help="keep the ratios found here in short.json")
    for command in (one, every):
        command.add_argument("--steps", type=int, default=8, help="measured optimizer steps of 8 samples")
        # With 7, eight batches have 2.11 padded tokens a real one; Dolly's rows have 2.08.
        command.add_argument("--seed", type=int, default=7, help="of weights, lengths and ids")
    jobs = commands.add_parser("job", help="a whole job with the teacher's states kept and without")
    jobs.add_argument("--out", type=Path, default=RESULTS / "job.csv")
    once = commands.add_parser("job-once", help="one such job in this process")
    once.add_argument("--curriculum", choices=job.CURRICULA, required=True)
    once.add_argument("--out", type=Path, required=True)
    for command in (jobs, once):
        command.add_argument("--cache", choices=("off", "memory", "disk"), default="memory")
        command.add_argument("--epochs", type=int, default=20)
    for command in (one, every, jobs, once):
        command.add_argument("--threads", type=int, default=1)
    return parser


def _comparison(text: str) -> tuple[str, Order]:
    pair, _, order = text.partition("/")
    if pair in PAIRS and order in ("random", "sorted"):
        return pair, "sorted" if order == "sorted" else "random"
    raise argparse.ArgumentTypeError(f"{text!r} is no comparison: one of {', '.join(PAIRS)}, then /random or /sorted")


if __name__ == "__main__":
    sys.exit(main())
