"""One run of the study: a job's spec through the engine, and what its student is worth on the test rows."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.families import Family
from benchmarks.quality.ledger import Record, Unit, packed
from benchmarks.quality.methods import heavy_alpha
from cpd_engine import pipeline
from cpd_engine.assessment import RowScore
from cpd_engine.config import RunConfig
from cpd_engine.data.batches import pack, parts
from cpd_engine.data.store import Samples
from cpd_engine.divergences import divergence
from cpd_engine.evaluation.report import LOWER_IS_BETTER
from cpd_engine.events import Evaluated, Event, Measured, Planned
from cpd_engine.inputs import Inputs
from cpd_engine.models.load import load
from cpd_engine.presets import PRESETS
from cpd_engine.stages.recalling import FILE, read_answers

# Tokens that go through both models together.
_TOKENS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a study works: models, rows and kept teacher states under `work`, the commit that it runs at."""

    work: Path
    teacher: str
    student: str
    files: Mapping[str, Path]
    commit: str


def spec_of(unit: Unit, family: Family, place: Place) -> RunConfig:
    """The job that the unit stands for."""
    spec: dict[str, Any] = {
        "teacher": {"local": place.teacher},
        "student": {"local": place.student},
        "dataset": {split: str(path) for split, path in place.files.items()},
        "budget": {"amount": family.steps},
        "optimizer": {"learning_rate": unit.learning_rate},
        "seed": unit.seed,
        "evaluation": {
            "validation_rows": family.validation_rows,
            "test_rows": family.test_rows if unit.role == "score" else 1,
        },
    }
    tempered = {} if unit.tau_1 == 0.0 else {"tau_1": unit.tau_1, "tau_n": unit.tau_n}
    spec = _merged(_merged(_merged(family.spec, spec), tempered), unit.change)
    if spec.get("alpha") == "as heavy":
        spec["alpha"] = heavy_alpha(0.3, unit.tau_n)
    if (own := PRESETS[spec["preset"]].get("policy")) is not None:
        spec["policy"] = _merged({**own, **spec["evaluation"]["generation"]}, spec.get("policy", {}))
    return RunConfig.model_validate_json(json.dumps(spec))


def execute(unit: Unit, family: Family, place: Place) -> Record:
    """Run it; nothing of it stays on the disk."""
    torch.set_num_threads(1)
    out, events, started = place.work / "runs" / unit.key, list[Event](), time.process_time()
    shutil.rmtree(out, ignore_errors=True)
    config = spec_of(unit, family, place)
    inputs = Inputs(model_roots=(place.work / "models",), state_cache=place.work / "states")
    pipeline.run(config, inputs=inputs, out=out, emit=events.append, should_stop=lambda: False, probes=False)
    cpu_s = time.process_time() - started
    scored, models = unit.role == "score", place.work / "models"
    rows = {who: _columns(read_answers(out / "evaluation" / who / FILE)) for who in ("student", "teacher", "untouched")}
    if scored:
        test, teacher = Samples(out / "encoded" / "test.arrow"), models / place.teacher
        rows["student"]["kl"] = distances(test, teacher, out / "export")
        rows["untouched"]["kl"] = _untouched_distances(family, place, test)
        rows["teacher"]["kl"] = np.zeros(len(test))
    scores = {who: _means(columns) for who, columns in rows.items()} if scored else {}
    shutil.rmtree(out)
    return Record(
        unit=unit,
        scores=scores.pop("student", {}),
        validation=round(_best(events, family.metric), 5),
        rows={family.metric: packed(rows["student"][family.metric])} if scored else {},
        anchors=scores,
        steps=next(event.total_iterations for event in events if isinstance(event, Planned)),
        tokens=round(sum(event.values["tokens"] for event in events if isinstance(event, Measured))),
        cpu_s=round(cpu_s, 1),
        commit=place.commit,
    )


@torch.no_grad()
def distances(samples: Samples, teacher: Path, student: Path) -> NDArray[np.float64]:
    """KL(teacher ‖ student) at τ = 1 in nats, the mean over each sample's supervised tokens [N]."""
    models = [load(path, dtype=torch.float32) for path in (teacher, student)]
    for model in models:
        model.model.eval()
    sums, counts = np.zeros(len(samples)), np.zeros(len(samples))
    for part in parts(samples.lengths, tokens=_TOKENS, padded=False):
        batch = pack([samples[int(i)] for i in part])
        p, q = (model.logits(model.states(batch)).double() for model in models)
        kl_N = divergence("kld", q, p).numpy()
        at = np.cumsum(batch.supervised)[:-1]
        sums[part] = [one.sum() for one in np.split(kl_N, at)]
        counts[part] = batch.supervised
    return sums / counts


def _untouched_distances(family: Family, place: Place, test: Samples) -> NDArray[np.float64]:
    """`distances` of the untouched student: the same in every run of a family, whose seeds share their test rows, so measured once."""
    kept = place.work / "untouched" / f"{family.name}-{family.setup}.npy"
    if kept.exists():
        found: NDArray[np.float64] = np.load(kept)
        return found
    measured = distances(test, place.work / "models" / place.teacher, place.work / "models" / place.student)
    kept.parent.mkdir(exist_ok=True)
    # Renamed whole: the other process may be looking for it.
    draft = kept.with_suffix(f".{os.getpid()}.draft.npy")
    np.save(draft, measured)
    draft.rename(kept)
    return measured


def _columns(answers: list[RowScore]) -> dict[str, NDArray[np.float64]]:
    return {
        "exact_match": np.array([one.exact_match for one in answers]),
        "rouge_l": np.array([one.rouge_l for one in answers]),
        "ce": np.array([one.ce_sum / one.supervised for one in answers]),
    }


def _means(columns: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Over the rows, each weighing alike, as in the differences between methods; what is right or similar in percent."""
    return {
        metric: round(float(values.mean()) * (1.0 if metric in LOWER_IS_BETTER or metric == "kl" else 100.0), 5)
        for metric, values in columns.items()
    }


def _best(events: list[Event], metric: str) -> float:
    values = [
        event.metrics[metric]
        for event in events
        if isinstance(event, Evaluated) and event.split == "validation" and event.subject == "student"
    ]
    return min(values) if metric in LOWER_IS_BETTER else max(values)


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` over `base`, objects merged key by key."""
    found = dict(base)
    for key, value in change.items():
        known = found.get(key)
        found[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return found
