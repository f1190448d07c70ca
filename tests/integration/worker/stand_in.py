"""A stand-in for the engine that speaks its protocol without torch: `stand_in.py run|estimate SPEC --out DIR --events-fd N --watchdog`.

Its "weights" are a chain of hashes, so a run that was broken and resumed shows whether it equals an unbroken one. The job's
metadata says what it does: `steps`, `every` (checkpoints), `step_s`, and faults:
`note` (a file that holds the step reached),
`gate` (a file: wait for it before step `gate_step`), `once` (a file: do `fault` at `fault_step` only if it is not there yet).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from cpd_engine.config import RunConfig
from cpd_engine.data.readers import lines_of
from cpd_engine.events import (
    Checkpointed,
    CheckpointRole,
    DataReady,
    EpochStarted,
    Evaluated,
    Event,
    Exported,
    Failed,
    Finished,
    Forecasted,
    Measured,
    PhaseFinished,
    PhaseForecast,
    PhaseStarted,
    RunStarted,
    SealedFile,
    Stopped,
    to_json,
)

FORECAST = Forecasted(
    exact=True,
    duration_s=60.0,
    least_s=50.0,
    most_s=75.0,
    cpu_s=100.0,
    phases=(PhaseForecast(phase="train", duration_s=60.0, cpu_s=100.0),),
    tokens=1000,
    tokens_per_s=20.0,
    memory_bytes=10**9,
    cache_bytes=10**6,
    disk_bytes=10**7,
    probe_s=1.0,
)


class Engine:
    """One process of a run."""

    def __init__(self, config: RunConfig, out: Path, datasets: dict[str, Path], events_fd: int) -> None:
        self.asked = config.metadata
        self.out, self.datasets = out, datasets
        self.events = os.fdopen(events_fd, "w", buffering=1)
        self.stop = threading.Event()
        self.state, self.step = "start", 0

    def emit(self, event: Event) -> None:
        self.events.write(to_json(event) + "\n")

    def estimate(self) -> int:
        started = RunStarted(
            config_sha256="0" * 64, device="cpu", precision="fp32", threads=1, versions={}, resumed=False
        )
        self.emit(started)
        if self.asked.get("fault") == "invalid":
            self.emit(Failed(code="invalid_dataset", message="3 of 4 rows are bad"))
            return 20
        if self.asked.get("fault") != "forget":
            self.emit(FORECAST)
        self.emit(Finished(duration_s=1.0))
        return 0

    def run(self) -> int:
        resumed = self.restore()
        self.emit(
            RunStarted(config_sha256="0" * 64, device="cpu", precision="fp32", threads=1, versions={}, resumed=resumed)
        )
        if self.asked.get("fault") == "invalid":
            self.emit(Failed(code="invalid_dataset", message="3 of 4 rows are bad"))
            return 20
        self.prepare()
        if not self.train():
            self.emit(Stopped(phase="train"))
            return 10
        self.export()
        if self.asked.get("fault") == "forget":
            return 0
        self.emit(Finished(duration_s=1.0))
        return 0

    def prepare(self) -> None:
        self.emit(PhaseStarted(phase="prepare", index=0, total=3))
        reused = sealed(self.out / "prepared") is not None
        if not reused:
            rows = sum(1 for _ in lines_of(self.datasets.values()))
            self.seal("prepared", "phase", "prepared", {"data.json": json.dumps({"rows": rows})})
            self.emit(
                DataReady(rows={"train": rows}, dropped={}, prompt_tokens=1, supervised_tokens=1, sha256="0" * 64)
            )
        self.emit(PhaseFinished(phase="prepare", duration_s=0.0, reused=reused))

    def train(self) -> bool:
        steps, every = int(self.asked.get("steps", "20")), int(self.asked.get("every", "5"))
        self.emit(PhaseStarted(phase="train", index=1, total=3))
        self.emit(
            EpochStarted(
                trained="student", epoch=1, epochs=1, subset_size=8, samples=8, iterations=steps,
                temperature=1.0, mixing=0.5, alpha=0.3,
            )
        )  # fmt: skip
        while True:
            if self.step and self.step % every == 0 and sealed(self.training(self.step)) is None:
                self.seal_training()
            if self.stop.is_set():
                if sealed(self.training(self.step)) is None and self.step:
                    self.seal_training()
                return False
            if self.step == steps:
                break
            self.misbehave(self.step + 1)
            self.take_step(steps)
        self.emit(Evaluated(subject="student", split="validation", rows=4, metrics={"ce": 1.5}, epoch=1))
        self.seal("best", "best", "train/best", {"model.safetensors": self.state})
        return True

    def take_step(self, steps: int) -> None:
        self.step += 1
        self.state = hashlib.sha256(f"{self.state}{self.step}".encode()).hexdigest()
        self.stop.wait(float(self.asked.get("step_s", "0")))
        loss = int(self.state[:8], 16) / 2**32
        if "note" in self.asked:
            # Put in place whole: one who reads it meanwhile must not find it empty.
            draft = Path(self.asked["note"] + ".draft")
            draft.write_text(str(self.step))
            draft.replace(self.asked["note"])
        values = {"loss": loss, "tokens": float(self.step * 10)}
        self.emit(
            Measured(
                trained="student", step=self.step, total_steps=steps, epoch=1, values=values,
                tokens_per_s=100.0, step_s=0.1, eta_s=1.0, memory_bytes=0,
            )
        )  # fmt: skip

    def misbehave(self, step: int) -> None:
        if step == int(self.asked.get("gate_step", "-1")):
            while not Path(self.asked["gate"]).exists() and not (self.stop.is_set() and "deaf" not in self.asked):
                time.sleep(0.005)
        if step != int(self.asked.get("fault_step", "-1")):
            return
        if "once" in self.asked:
            if Path(self.asked["once"]).exists():
                return
            Path(self.asked["once"]).touch()
        match self.asked["fault"]:
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                print("MemoryError: a reason on stderr", file=sys.stderr)
                os._exit(3)
            case "babble":
                self.events.write('{"kind":"no such"}\nnot json\n\n')
            case "silent":
                threading.Event().wait()

    def export(self) -> None:
        self.emit(PhaseStarted(phase="export", index=2, total=3))
        self.seal("model", "export", "export", {"model.safetensors": self.state, "adapter/a.json": "{}"})
        self.emit(Exported(name="model", path="export", formats=("merged",), parameters=1, size_bytes=64))

    def training(self, step: int) -> Path:
        return self.out / f"train/step-{step:06d}"

    def seal_training(self) -> None:
        standing = sorted((self.out / "train").glob("step-*"))
        self.seal(
            f"step-{self.step:06d}",
            "training",
            f"train/step-{self.step:06d}",
            {"state.json": json.dumps({"step": self.step, "state": self.state})},
            retained=tuple(path.name for path in standing[-1:]),
        )
        for path in standing[:-1]:
            shutil.rmtree(path)

    def seal(
        self, name: str, role: CheckpointRole, path: str, files: dict[str, str], retained: tuple[str, ...] = ()
    ) -> None:
        draft = self.out / f".draft-{name}"
        for file, text in files.items():
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
            (draft / file).write_text(text)
        listed = [described(draft, file) for file in files]
        manifest = {"files": [[file.path, file.sha256] for file in listed]}
        (draft / "manifest.json").write_text(json.dumps(manifest))
        (self.out / path).parent.mkdir(parents=True, exist_ok=True)
        draft.rename(self.out / path)
        step = self.step if role == "training" else None
        listed.append(described(self.out / path, "manifest.json"))
        self.emit(
            Checkpointed(name=name, role=role, path=path, files=tuple(listed), retained=(*retained, name), step=step)
        )

    def restore(self) -> bool:
        for path in sorted((self.out / "train").glob("step-*"), reverse=True):
            if sealed(path) is not None:
                state = json.loads((path / "state.json").read_text())
                self.state, self.step = state["state"], state["step"]
                return True
        return False


def described(root: Path, file: str) -> SealedFile:
    content = (root / file).read_bytes()
    return SealedFile(path=file, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def sealed(path: Path) -> Path | None:
    """`path` if it is sealed and each file matches its manifest."""
    manifest = path / "manifest.json"
    if not manifest.exists():
        return None
    files = json.loads(manifest.read_text())["files"]
    return path if all(described(path, name).sha256 == sha256 for name, sha256 in files) else None


def watch() -> NoReturn:
    """End of file on stdin: the worker is dead."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("unreachable")


def main() -> int:
    """Parse the engine's own command line and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["run", "estimate"])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--watchdog", action="store_true", required=True)
    parser.add_argument("--dataset", action="append", default=[])
    parser.add_argument("--model-root", action="append", default=[])
    parser.add_argument("--state-cache", type=Path)
    parser.add_argument("--state-cache-bytes", type=int)
    arguments = parser.parse_args()
    config = RunConfig.model_validate_json(arguments.spec.read_bytes())
    datasets = {name: Path(path) for name, _, path in (value.partition("=") for value in arguments.dataset)}
    engine = Engine(config, arguments.out, datasets, arguments.events_fd)
    deaf = "deaf" in config.metadata
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: engine.stop.set())
    threading.Thread(target=watch, daemon=True).start()
    return engine.run() if arguments.command == "run" else engine.estimate()


if __name__ == "__main__":
    sys.exit(main())
