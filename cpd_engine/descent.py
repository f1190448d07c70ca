"""The model card's sections on where the student comes from: rows, licences, and how it was and can be made. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cpd_engine.config import DatasetSpec, HubModel, RunConfig, StudentFromTeacher, StudentRef, TeacherRef
from cpd_engine.events import SealedFile
from cpd_engine.lineage import Ancestor, Lineage
from cpd_engine.quoting import code, plain


def rows(config: RunConfig, lineage: Lineage) -> str:
    """The section on data."""
    data = lineage.data
    counts = ", ".join(f"{count:,} {split}" for split, count in data.rows.items())
    files = [
        f"- {split}: {code(file.name)}, {file.size_bytes:,} bytes, sha256 `{file.sha256}`"
        for split, found in data.files.items()
        for file in found
    ]
    told = f"{_source(config.dataset, data.revision)} Rows used: {counts}.\nsha256 of the normalised rows: `{data.rows_sha256}`."
    return "\n\n".join(["## Data", told, *(["\n".join(files)] if files else [])])


def _source(spec: DatasetSpec, commit: str | None) -> str:
    if spec.synthetic is not None:
        return (
            f"Synthetic instruction tasks made by the project (seed {spec.synthetic.seed}): arithmetic, dates, units, sorting, "
            "string edits, table look-ups. The values of the test rows never occur together in training."
        )
    if spec.hub is not None:
        return f"[{spec.hub}](https://huggingface.co/datasets/{spec.hub}) at revision `{commit or spec.revision}`."
    return "A data set of the user's own."


def licences(config: RunConfig, lineage: Lineage) -> str:
    """The section on licences: as they are stated, or that they are not."""
    return (
        "## Licences\n\nOf what this model was made from, as stated there; none is guessed. What they mean for this model is for its user "
        f"to judge.\n\n- Teacher: {_of_model(lineage.teacher, config.teacher)}\n"
        f"- Student before training: {_of_model(lineage.student, config.student)}\n- Rows: {_of_rows(config.dataset, lineage)}"
    )


def _of_model(model: Ancestor, ref: TeacherRef | StudentRef) -> str:
    if isinstance(ref, StudentFromTeacher):
        return "the teacher's, of which it is a part"
    if model.made:
        return "none: fresh weights, made by the run itself"
    where = "on the hub" if isinstance(ref, HubModel) else "in its folder"
    return "not stated" if model.licence is None else f"{plain(model.licence)}, as its README.md {where} states it"


def _of_rows(spec: DatasetSpec, lineage: Lineage) -> str:
    if spec.synthetic is not None:
        return "none: made by the run itself"
    if lineage.data.licence is None:
        return "not stated"
    said = "as its README.md on the hub states it" if spec.hub is not None else "as whoever gave them states it"
    return f"{plain(lineage.data.licence)}, {said}"


def making(lineage: Lineage, weights: Sequence[SealedFile]) -> str:
    """The section on lineage: by what it was made, the weights' hashes, and how to make them again."""
    version, commit = lineage.engine["version"], lineage.engine["commit"]
    by = f"cpd {version}" + (f" at commit `{commit}`" if commit else " of a commit that its installation does not tell")
    seeds = ", ".join(f"{name} {value}" for name, value in lineage.seeds.items())
    processes = f"{lineage.processes} processes of " if lineage.processes > 1 else ""
    threads = f"{lineage.threads} thread{'s' if lineage.threads > 1 else ''}"
    listed = "\n".join(f"| {code(file.path)} | {file.size_bytes:,} | `{file.sha256}` |" for file in weights)
    return (
        f"## Lineage\n\nMade by {by}, on {lineage.device} in {lineage.precision} by {processes}{threads}; {seeds}. `lineage.json` has the "
        "hashes of the models' weights and of the rows, the libraries and the licences, `SHA256SUMS` that of every file here.\n\n"
        f"| file | bytes | sha256 |\n|---|---:|---|\n{listed}\n\n"
        "`bash reproduce.sh OUT [ROWS]` makes the student again as `spec.json` says and compares the weights bit for bit; ROWS is a "
        "folder with the files of rows. With `--service` a CPD service does it."
    )
