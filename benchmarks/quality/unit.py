"""One run of the study: a job's spec through the engine, and what its student is worth on the test rows."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
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
from cpd_engine.evaluation.report import LOWER_IS_BETTER, metrics_of
from cpd_engine.events import Evaluated, Event, Measured, Planned
from cpd_engine.inputs import Inputs
from cpd_engine.models.load import load
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
    scored = unit.role == "score"
    answers = {who: read_answers(out / "evaluation" / who / FILE) for who in ("student", "teacher", "untouched")}
    rows, anchors = _columns(answers["student"]), {w: metrics_of(a) for w, a in answers.items() if w != "student"}
    if scored:
        test, teacher = Samples(out / "encoded" / "test.arrow"), place.work / "models" / place.teacher
        rows["kl"], tokens_N = distances(test, teacher, out / "export")
        anchors["untouched"]["kl"] = _mean(*distances(test, teacher, place.work / "models" / place.student))
        anchors["teacher"]["kl"] = 0.0
    scores = metrics_of(answers["student"]) | ({"kl": _mean(rows["kl"], tokens_N)} if scored else {})
    shutil.rmtree(out)
    return Record(
        unit=unit,
        scores={metric: round(value, 5) for metric, value in scores.items()} if scored else {},
        validation=round(_best(events, family.metric), 5),
        rows={metric: packed(values) for metric, values in rows.items()} if scored else {},
        anchors={who: {m: round(v, 5) for m, v in found.items()} for who, found in anchors.items()} if scored else {},
        steps=next(event.total_iterations for event in events if isinstance(event, Planned)),
        tokens=round(sum(event.values["tokens"] for event in events if isinstance(event, Measured))),
        cpu_s=round(cpu_s, 1),
        models=_digest(place.work / "models" / place.teacher, place.work / "models" / place.student),
        commit=place.commit,
    )


@torch.no_grad()
def distances(samples: Samples, teacher: Path, student: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """KL(teacher ‖ student) at τ = 1 in nats, summed over each sample's supervised tokens and divided by them [N], and their number."""
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
    return sums / counts, counts


def _columns(answers: list[RowScore]) -> dict[str, NDArray[np.float64]]:
    return {
        "exact_match": np.array([one.exact_match for one in answers]),
        "rouge_l": np.array([one.rouge_l for one in answers]),
        "ce": np.array([one.ce_sum / one.supervised for one in answers]),
    }


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float((values * weights).sum() / weights.sum())


def _best(events: list[Event], metric: str) -> float:
    values = [
        event.metrics[metric]
        for event in events
        if isinstance(event, Evaluated) and event.split == "validation" and event.subject == "student"
    ]
    return min(values) if metric in LOWER_IS_BETTER else max(values)


def _digest(*folders: Path) -> str:
    digest = sha256()
    for folder in folders:
        digest.update((folder / "model.safetensors").read_bytes())
    return digest.hexdigest()[:12]


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`change` over `base`, objects merged key by key."""
    found = dict(base)
    for key, value in change.items():
        known = found.get(key)
        found[key] = _merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return found
