"""Run a recipe through the whole service, as a person would: start it, upload, submit, watch, download, try the student.

    python recipes/demo.py recipes/demo.yaml
    python recipes/demo.py recipes/mine.yaml --dataset train=rows.jsonl --model-root models

Every step is a `cpd` command that is printed before it runs. The service is a child that stops when this process ends, however it
ends. The last line of the output is `checkpoint: <directory>`; on any failure the exit code is not zero and the service's log is
shown.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from cpd_engine.notation import parse_yaml

HERE = Path(__file__).resolve().parent
CPD = Path(sys.executable).with_name("cpd")
START_S = 120.0
STOP_S = 90.0
LOG_LINES = 40


class StepFailed(Exception):
    """A command of the demo did not succeed."""


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = (given.work / time.strftime("%Y%m%d-%H%M%S")).absolute()
    work.mkdir(parents=True)
    log = work / "service.log"
    started = time.monotonic()
    try:
        datasets = dict(given.dataset) or synthesize(work / "data", given.recipe)
        with service(work / "cpd-data", log, given.model_root) as environment:
            checkpoint = distil(given, datasets, work, environment)
    except (StepFailed, OSError) as failure:
        print(f"\ndemo failed: {failure}", file=sys.stderr)
        show_tail(log)
        return 1
    print(f"\nall in {time.monotonic() - started:.0f} s")
    print(f"checkpoint: {checkpoint}")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description="Run a recipe through the whole service.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--dataset", action="append", default=[], type=split_and_file, metavar="SPLIT=FILE")
    parser.add_argument("--model-root", action="append", default=[], type=Path, help="folder with local models")
    parser.add_argument("--work", type=Path, default=Path("build/demo"), help="a new folder is made in it for each run")
    parser.add_argument("--answers", type=int, default=2, help="answers to show side by side")
    return parser.parse_args()


def split_and_file(text):
    split, _, file = text.partition("=")
    if not file:
        raise argparse.ArgumentTypeError("write SPLIT=FILE")
    return split, Path(file)


def synthesize(folder, recipe):
    """The project's own data, as the recipe's `synthetic` names it: the test split is disjoint in values."""
    asked = parse_yaml(recipe.read_text(encoding="utf-8"))["dataset"].get("synthetic")
    if asked is None:
        raise StepFailed(f"{recipe} names no synthetic rows: give data with --dataset train=FILE")
    rows, seed = asked["rows"], asked["seed"]
    run([sys.executable, "-m", "cpd_engine", "synthesize", "--rows", rows, "--seed", seed, "--out", folder])
    return {split: folder / f"{split}.jsonl" for split in ("train", "validation", "test")}


def distil(given, datasets, work, environment):
    """Upload, submit, watch, download, answer. Returns the checkpoint's folder."""
    uploaded = {}
    for split, file in datasets.items():
        answer = run([CPD, "datasets", "upload", file, "--json"], environment, captured=True)
        uploaded[split] = json.loads(answer)["id"]
    overrides = [word for split, dataset in uploaded.items() for word in ("--dataset", f"{split}={dataset}")]
    job = run([CPD, "submit", given.recipe, *overrides], environment, captured=True).strip()
    run([CPD, "watch", job, "--exit-status"], environment)
    checkpoint = work / "checkpoint"
    run([CPD, "download", job, "--out", checkpoint], environment)
    samples = work / "samples.json"
    samples.write_text(run([CPD, "samples", job, "--limit", "1000", "--json"], environment, captured=True))
    count = ("--count", given.answers)
    run([sys.executable, HERE / "side_by_side.py", checkpoint, samples, *count], environment)
    return checkpoint


def run(command, environment=None, *, captured=False):
    """Print and run a command; its output if `captured`. Raises StepFailed unless it succeeds."""
    words = [str(word) for word in command]
    print("$ " + shlex.join([Path(words[0]).name, *words[1:]]), flush=True)
    done = subprocess.run(words, env=environment, text=True, check=False, stdout=subprocess.PIPE if captured else None)
    if done.returncode:
        raise StepFailed(f"`{shlex.join(words)}` ended with exit code {done.returncode}")
    return done.stdout or ""


@contextmanager
def service(data_dir, log, model_roots):
    """The embedded service on a free port while the block runs; gives the environment in which `cpd` finds it."""
    roots = [word for root in model_roots for word in ("--model-root", str(root.absolute()))]
    command = [str(CPD), "serve", "--port", "0", "--data-dir", str(data_dir), "--watchdog", "--json", *roots]
    print("$ " + shlex.join(["cpd", *command[1:]]), flush=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("CPD_")}
    with log.open("wb") as written:
        # A session of its own: Ctrl-C reaches us, and we stop it. Its standard input closes when we are gone.
        child = subprocess.Popen(
            command, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, start_new_session=True
        )
    try:
        ready = json.loads(first_line(child))
        yield own | {"CPD_URL": ready["url"], "CPD_DATA_DIR": str(data_dir)}
    finally:
        stop(child)


def first_line(child):
    """The line with which the service says that it is ready. A service that does not come up is ended by the deadline."""
    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    signal.alarm(int(START_S))
    line = child.stdout.readline()
    signal.alarm(0)
    if not line:
        raise StepFailed(f"the service did not start (exit code {child.wait()})")
    return line


def stop(child):
    """Stop the service and wait until it is gone, with its worker and its engine."""
    child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def show_tail(log):
    """The last lines of the service's log, for whoever has to find out why."""
    if log.exists():
        print(f"\nlast lines of {log}:", file=sys.stderr)
        print("\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
