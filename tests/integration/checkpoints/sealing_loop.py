"""Seals directory after directory in children that are killed: `sealing_loop.py FOLDER SEED KILLS`, a JSON line for each kill.

One import of torch for all of them: a child is a fork, and what it told before it died is what it may be held to.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
from itertools import count
from pathlib import Path
from time import monotonic

import torch

from cpd_engine import checkpoint

# Large enough that a kill often falls into the writing.
VALUES = 40_000
# A child lives up to so many times as long as sealing one directory takes here.
LIVES = 4.0


def seal(path: Path, step: int) -> None:
    """A directory whose every file tells its step."""
    with checkpoint.sealing(path) as draft:
        for name in ("weights", "optimizer"):
            checkpoint.write_tensors(draft / f"{name}.safetensors", {"w": torch.full((VALUES,), float(step))})
        checkpoint.write_json(draft / "state.json", {"step": step})


def work(root: Path, first: int, told: int) -> None:
    """Seal states, and `best` in place of the last best, until killed; the step is told once both stand."""
    for step in count(first):
        seal(root / checkpoint.state_name(step), step)
        checkpoint.prune(root, keep=2)
        seal(root / "best", step)
        os.write(told, step.to_bytes(4, "big"))


def killed(root: Path, first: int, after_s: float) -> int:
    """Run `work` in a child for a moment; the last step it told of, 0 for none."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        work(root, first, tell)
    os.close(tell)
    select.select([], [], [], after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(told, "rb") as pipe:
        content = pipe.read()
    return int.from_bytes(content[-4:], "big")


def main() -> None:
    """Kill, recover, look, and tell what was found."""
    root, chance, kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    torch.set_num_threads(1)
    started = monotonic()
    seal(root / checkpoint.state_name(1), 1)
    longest_s = LIVES * (monotonic() - started)
    step = 1
    for _ in range(kills):
        after_s = chance.uniform(0.0, longest_s)
        told = killed(root, step + 1, after_s)
        drafts = sum(1 for _ in root.rglob(".*"))
        checkpoint.recover(root)
        # One whose deletion was cut short has lost its manifest first, and passes for nothing.
        stand = [path.name for path in sorted(root.iterdir()) if (path / checkpoint.MANIFEST).exists()]
        for name in stand:
            checkpoint.verify(root / name)
        steps = {name: checkpoint.read_json(root / name / "state.json")["step"] for name in stand}
        print(json.dumps({"after_s": after_s, "told": told, "drafts": drafts, "steps": steps}), flush=True)
        step = max(steps.values(), default=0)


if __name__ == "__main__":
    main()
