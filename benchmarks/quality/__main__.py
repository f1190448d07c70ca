"""`python -m benchmarks.quality`: which method makes the best student, each with its own settings, on the same data and steps."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

from benchmarks.engine.conditions import conditions
from benchmarks.quality.families import FAMILIES, Family
from benchmarks.quality.figures import draw
from benchmarks.quality.ledger import Ledger, Unit
from benchmarks.quality.materials import digest, models, rows, teach
from benchmarks.quality.methods import SHORT, SYSTEMS
from benchmarks.quality.report import tables
from benchmarks.quality.study import carry_out
from benchmarks.quality.unit import Place, execute

HERE = Path(__file__).parent
RECORDS = HERE / "results" / "records.jsonl"


def main() -> int:
    """Carry out what is missing of the asked part of the study."""
    arguments = _parser().parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.teach:
        print(teach(arguments.work))
        return 0
    ledger = Ledger(arguments.records)
    if arguments.report:
        print(tables(ledger, arguments.report))
        if arguments.figures:
            print("\n".join(map(str, draw(ledger, arguments.report, arguments.figures))))
        return 0
    methods = arguments.methods or (SHORT if arguments.short else tuple(SYSTEMS))
    for name in arguments.families or [
        name for name, one in FAMILIES.items() if not (arguments.short and one.settled_in)
    ]:
        family = FAMILIES[name]
        if name == "dolly" and (arguments.dolly is None or arguments.smollm2 is None):
            print("dolly is left out: it needs --dolly FILE and --smollm2 FOLDER", file=sys.stderr)
            continue
        if arguments.seeds:
            family = replace(family, seeds=family.seeds[: arguments.seeds])
        Study(family, ledger, arguments).carry_out(methods)
    return 0


class Study:
    """One family's runs on so many processes of one thread each."""

    def __init__(self, family: Family, ledger: Ledger, arguments: argparse.Namespace) -> None:
        self._ledger = ledger
        self._arguments = arguments
        self._started = time.monotonic()
        # Dolly's student is cut by rows of its own training.
        rows(arguments.work, family, family.seeds[0], arguments.dolly)
        self._models = models(arguments.work, family, arguments.smollm2)
        self._family = replace(family, models=digest(arguments.work, self._models))
        self._commit = conditions(datetime.now(UTC)).commit

    def carry_out(self, methods: Sequence[str]) -> None:
        """All stages."""
        ablate, before = not self._arguments.short, FAMILIES.get(self._family.settled_in)
        settled_in = None if before is None else replace(before, models=self._family.models)
        carry_out(self._family, methods, self._ledger, self._run, ablate=ablate, settled_in=settled_in)

    def _run(self, units: Sequence[Unit]) -> None:
        missing = {unit.key: unit for unit in units if unit.key not in self._ledger.records}
        if not missing:
            return
        with ProcessPoolExecutor(self._arguments.jobs, mp_context=get_context("spawn")) as pool:
            running = [pool.submit(execute, unit, self._family, self._place(unit)) for unit in missing.values()]
            for done, future in enumerate(as_completed(running), start=1):
                record = future.result()
                self._ledger.add(record)
                unit = record.unit
                told = f"{unit.family} {unit.role} {unit.method} tau {unit.tau_1:g} to {unit.tau_n:g} lr {unit.learning_rate:g}"
                value = record.scores.get(self._family.metric, record.validation)
                minutes = (time.monotonic() - self._started) / 60
                print(f"{minutes:6.1f} min  {done}/{len(missing)}  {told} seed {unit.seed}: {value:.3f}", flush=True)

    def _place(self, unit: Unit) -> Place:
        teacher, student = self._models
        return Place(
            work=self._arguments.work,
            teacher=teacher,
            student=student,
            files=rows(self._arguments.work, self._family, unit.seed, self._arguments.dolly),
            commit=self._commit,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="the main methods only, no ablations and no fresh families"
    )
    parser.add_argument(
        "--teach", action="store_true", help="train the teacher of the string tasks anew, beside the one that is kept"
    )
    parser.add_argument("--families", nargs="*", choices=[*FAMILIES])
    parser.add_argument("--methods", nargs="*", choices=[*SYSTEMS])
    parser.add_argument("--report", metavar="METHOD", help="print the tables, with this method held against the others")
    parser.add_argument("--figures", type=Path, help="with --report: draw pictures into this folder")
    parser.add_argument("--seeds", type=int, help="at most so many seeds of each family")
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--work", type=Path, default=Path("build/quality"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dolly", type=Path, help="Dolly's training rows, one JSON object a line")
    parser.add_argument("--smollm2", type=Path, help="the folder of SmolLM2-135M-Instruct (make demo-smollm2 makes it)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
