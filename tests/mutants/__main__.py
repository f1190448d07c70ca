"""`python -m tests.mutants [NAME…]`: each mutant's test is green on a copy of the tree as it is and red with the mutant's patch in it.

What it found is printed, and kept under build/mutants as CSV. Exits 1 where a mutant lives, or where a test is red without one.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant

OUT = ROOT / "build" / "mutants"
PARTS = (
    "api",
    "worker",
    "cpd_engine",
    "migrations",
    "tests",
    "recipes",
    "benchmarks",
    "docs",
    "pyproject.toml",
    "README.md",
)
GREEN, RED = 0, 1


def copied(target: Path) -> Path:
    """The tree, without what is built or kept by tools."""
    target.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, target / part)
    # Where shared data lies for tests that look for it.
    if (ROOT.parent / "shared").is_dir():
        (target.parent / "shared").symlink_to(ROOT.parent / "shared")
    return target


@contextmanager
def patched(tree: Path, mutant: Mutant) -> Iterator[None]:
    """The mutant's patch in the tree until the block ends."""
    file = tree / mutant.file
    whole = file.read_text("utf-8")
    file.write_text(mutant.applied(whole), "utf-8")
    try:
        yield
    finally:
        file.write_text(whole, "utf-8")


def ran(tree: Path, mutant: Mutant) -> tuple[int, str]:
    """pytest's exit code and last lines for the mutant's test, on the code of `tree` in every process."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", mutant.test]
    command += ["-k", mutant.only] if mutant.only else []
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout[-2000:]


def judged(tree: Path, mutant: Mutant) -> str:
    """`killed`, or what is wrong."""
    code, words = ran(tree, mutant)
    if code != GREEN:
        return f"its test is not green without it (pytest {code})\n{words}"
    with patched(tree, mutant):
        code, words = ran(tree, mutant)
    return "killed" if code == RED else f"LIVES (pytest {code})\n{words}"


def main(names: Sequence[str]) -> int:
    """Judge the mutants of these names, or all."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in MUTANTS}:
        print(f"no such mutant: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    survivors = 0
    with tempfile.TemporaryDirectory(dir=OUT) as folder, (OUT / "results.csv").open("w", newline="") as file:
        tree = copied(Path(folder) / "tree")
        rows = csv.writer(file)
        rows.writerow(["mutant", "file", "test", "verdict", "seconds"])
        for mutant in chosen:
            started = time.monotonic()
            verdict = judged(tree, mutant)
            survivors += verdict != "killed"
            took_s = time.monotonic() - started
            rows.writerow([mutant.name, mutant.file, mutant.test, verdict.splitlines()[0], f"{took_s:.1f}"])
            file.flush()
            print(f"{mutant.name:34} {took_s:6.1f} s  {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} killed; {OUT / 'results.csv'}")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
