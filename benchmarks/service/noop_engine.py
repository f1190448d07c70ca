"""An engine that learns nothing, so that what is measured is the service: started as the real one is, with nothing but the standard
library, in some 20 ms. The job's metadata say how many steps it tells (`steps`) and how long it waits before each (`step_s`).
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
MANIFEST = "manifest.json"


def main(words: list[str]) -> int:
    """`run SPEC --out DIR --events-fd N …`: start, steps, a sealed student, end."""
    spec, out = Path(words[1]), Path(words[words.index("--out") + 1])
    asked = json.loads(spec.read_text(encoding="utf-8"))["metadata"]
    steps, step_s = int(asked.get("steps", "0")), float(asked.get("step_s", "0"))
    threading.Thread(target=watch, daemon=True).start()
    with os.fdopen(int(words[words.index("--events-fd") + 1]), "w") as events:

        def tell(kind: str, **data: Any) -> None:
            events.write(json.dumps({"kind": kind, **data}) + "\n")
            if step_s:
                events.flush()

        process = {"device": "cpu", "precision": "fp32", "threads": 1, "versions": {}}
        tell("run_started", config_sha256="0" * 64, resumed=False, **process)
        tell("phase_started", phase="train", index=0, total=1)
        for step in range(1, steps + 1):
            time.sleep(step_s)
            tell("measured", **measured(step, steps))
        tell("checkpointed", **sealed(out))
        tell("finished", duration_s=0.0)
    return 0


def measured(step: int, steps: int) -> dict[str, Any]:
    """What a step of a real run tells: six values, and three of the process."""
    loss = 2.0 + 1.0 / step
    values = {"loss": loss, "ce": loss * 0.3, "kd": loss * 0.7, "grad_norm": 1.0, "learning_rate": 1e-4}
    told = {"trained": "student", "step": step, "total_steps": steps, "epoch": 1}
    return told | {
        "values": values | {"tokens": float(512 * step)},
        "tokens_per_s": 1000.0,
        "step_s": 0.5,
        "eta_s": 0.5 * (steps - step),
        "memory_bytes": 10**9,
    }


def sealed(out: Path) -> dict[str, Any]:
    """A student of 64 bytes with its manifest, sealed by a rename."""
    draft = out / ".draft"
    draft.mkdir(parents=True)
    (draft / WEIGHTS).write_bytes(b"\0" * 64)
    listed = [described(draft / WEIGHTS)]
    (draft / MANIFEST).write_text(json.dumps({"files": listed}), encoding="utf-8")
    listed.append(described(draft / MANIFEST))
    draft.rename(out / "export")
    return {"name": "model", "role": "export", "path": "export", "files": listed, "retained": ["model"]}


def described(file: Path) -> dict[str, Any]:
    """A file of a sealed directory."""
    content = file.read_bytes()
    return {"path": file.name, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def watch() -> None:
    """End of file on stdin: the worker is dead."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
