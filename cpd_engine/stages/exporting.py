"""Phase `export`: the student in one sealed directory, with everything its numbers rest on in the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cpd_engine import checkpoint, repro
from cpd_engine.card import Card
from cpd_engine.events import Exported, Planned, Reported
from cpd_engine.export import write_export
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stages.tracing import count_parameters, trace, weight_hashes


def export_student(run: Run, prepared: Prepared, reported: Reported, planned: Planned, *, teacher: Path) -> None:
    """Seal `export` and tell of it. `teacher`: the one that taught, whose size the model card compares with."""
    parameters = count_parameters(run.out / "trained" / "student")
    with run.once("export") as mine:
        if mine:
            _seal_export(run, prepared, reported, planned, teacher)
    formats = ("merged", "adapter") if (run.out / "export" / "adapter").is_dir() else ("merged",)
    size = sum(file.size_bytes for file in checkpoint.sealed_files(run.out / "export"))
    run.emit(Exported(name="model", path="export", formats=formats, parameters=parameters, size_bytes=size))


def _seal_export(run: Run, prepared: Prepared, reported: Reported, planned: Planned, teacher: Path) -> None:
    trained = run.out / "trained" / "student"
    traced = trace(run, prepared)
    card = Card(
        config=run.config,
        reported=reported,
        planned=planned,
        parameters=count_parameters(trained),
        teacher_parameters=count_parameters(teacher),
        lineage=traced.lineage,
    )
    metrics, provenance = reported.scores["student"], _provenance(run, prepared, reported)
    with run.sealing("export", "model", role="export", metrics=metrics, provenance=provenance) as draft:
        write_export(
            draft,
            trained=trained,
            tokenizer=prepared.tokenizer,
            end_id=prepared.end,
            generation=run.config.evaluation.generation,
            profile=run.out / "profile",
            card=card,
            again=traced.again,
            files=traced.files,
        )


def _provenance(run: Run, prepared: Prepared, reported: Reported) -> dict[str, Any]:
    sources = {"teacher": prepared.teacher, "student": prepared.student}
    return {
        "spec": run.config.model_dump(mode="json"),
        "seed": run.config.seed,
        "versions": repro.versions(),
        "device": str(run.runtime.device),
        "precision": run.runtime.precision,
        "threads": run.runtime.threads,
        "processes": run.fleet.world,
        "data": {"sha256": prepared.data["sha256"], "rows": prepared.data["rows"]},
        "commits": prepared.data["commits"],
        "models": {name: weight_hashes(path) for name, path in sources.items() if path is not None},
        "metrics": reported.scores,
    }
