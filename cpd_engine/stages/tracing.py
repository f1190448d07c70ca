"""Part of phase `export`: everything that the student's weights depend on, put together from what the phases before have sealed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cpd_engine import checkpoint, repro
from cpd_engine.config import HubModel, LocalModel, RunConfig, StudentRef, TeacherRef
from cpd_engine.lineage import Ancestor, Data, Lineage, Source, SuiteData
from cpd_engine.reproduction import pinned, place, plain_name
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.questions import UNIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """`again`: the spec with everything pinned; `files`: the user's files of rows by the plain names that it has for them."""

    lineage: Lineage
    again: RunConfig
    files: Mapping[str, Source]


def trace(run: Run, prepared: Prepared) -> Traced:
    """Reads the models' weights, to hash them."""
    config, data = run.config, prepared.data
    suites = checkpoint.read_json(run.out / UNIT / "suites.json") if config.evaluation.suites else {}
    places = _places(config, data, suites)
    commits = {name: commit for name, commit in data["commits"].items() if commit}
    again = pinned(
        config,
        commits=commits,
        suite_commits={title: told["commit"] for title, told in suites.items() if told["commit"]},
        files={at: plain_name(at, file.name) for at, file in places.items()},
        precision=run.runtime.precision,
        threads=run.runtime.threads * run.fleet.local_world,
    )
    student = prepared.student if prepared.student is not None else run.out / "base-student"
    lineage = Lineage(
        teacher=_ancestor(config.teacher, prepared.teacher, data, "teacher"),
        student=_ancestor(config.student, student, data, "student"),
        data=_data(config, data, _used(prepared)),
        suites=tuple(_suite(config, title, told) for title, told in suites.items()),
        engine=repro.engine(),
        libraries=repro.versions(),
        device=str(run.runtime.device),
        precision=run.runtime.precision,
        threads=run.runtime.threads,
        processes=run.fleet.world,
        seeds={"seed": config.seed, "student_seed": config.training_seed},
    )
    return Traced(lineage=lineage, again=again, files={plain_name(at, file.name): file for at, file in places.items()})


def count_parameters(model: Path) -> int:
    """Weights in a model directory's safetensors files, from their headers alone; tied ones are stored, and counted, once."""
    total = 0
    for file in sorted(model.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118 - no mapping
    return total


def weight_hashes(model: Path) -> dict[str, str]:
    """sha256 of a model directory's files of weights."""
    return {file.name: checkpoint.hash_file(model, file.name).sha256 for file in sorted(model.glob("*.safetensors"))}


def _ancestor(ref: TeacherRef | StudentRef, path: Path, data: Mapping[str, Any], name: str) -> Ancestor:
    return Ancestor(
        reference=ref.model_dump(mode="json"),
        revision=data["commits"].get(name),
        licence=data.get("licences", {}).get(name),
        made=not isinstance(ref, HubModel | LocalModel),
        parameters=count_parameters(path),
        weights=weight_hashes(path),
    )


def _used(prepared: Prepared) -> dict[str, int]:
    splits = {"train": prepared.samples, "validation": prepared.validation.rows, "test": prepared.test.rows}
    return {split: len(found) for split, found in splits.items()}


def _data(config: RunConfig, data: Mapping[str, Any], used: Mapping[str, int]) -> Data:
    dataset = config.dataset
    return Data(
        hub=dataset.hub,
        revision=data["commits"].get("dataset"),
        synthetic=None if dataset.synthetic is None else dataset.synthetic.model_dump(mode="json"),
        licence=data.get("licences", {}).get("dataset"),
        files={
            split: tuple(Source(**file) for file in found)
            for split, found in sorted(data.get("files", {}).items(), key=lambda item: _SPLITS.index(item[0]))
        },
        rows=used,
        rows_sha256=data["sha256"],
    )


_SPLITS = ("train", "validation", "test")


def _suite(config: RunConfig, title: str, told: Mapping[str, Any]) -> SuiteData:
    hub = next(suite.hub for suite in config.evaluation.suites if suite.title == title)
    files = {field: Source(**file) for field, file in told.get("files", {}).items()}
    return SuiteData(suite=title, hub=hub, revision=told["commit"], files=files, rows_sha256=told["sha256"])


def _places(config: RunConfig, data: Mapping[str, Any], suites: Mapping[str, Any]) -> dict[str, Source]:
    """The files of a user's by their place in the spec; those of a hub are fetched from there again."""
    found: dict[str, Source] = {}
    if config.dataset.train is not None:
        found |= {split: Source(**files[0]) for split, files in data.get("files", {}).items()}
    for number, suite in enumerate(config.evaluation.suites):
        files = suites[suite.title].get("files", {})
        found |= {place(number, field): Source(**file) for field, file in files.items()}
    return found
