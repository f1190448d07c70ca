"""Models and rows of the families, made once in a work folder."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.quality.families import Family
from cpd_engine import pipeline
from cpd_engine.checkpoint import sealing
from cpd_engine.config import RunConfig
from cpd_engine.data.synthetic import streams
from cpd_engine.errors import StopRequested
from cpd_engine.events import Checkpointed, Event
from cpd_engine.inputs import Inputs

Row = dict[str, str]
_GIVEN: dict[str, Any] = {
    "template": "chat",
    "max_length": 128,
    "threads": 2,
    "evaluation": {"validation_rows": 0, "test_rows": 1},
    "checkpoints": {"every_steps": 2000, "keep": 1},
}
# The teacher of the string tasks has seen far more of them than a student will.
_TEACHER: dict[str, Any] = {
    "teacher": {"tiny": "llama", "layers": 4, "hidden": 128, "heads": 4, "vocabulary": 512},
    "student": {"from": "teacher", "drop_layers": 2},
    "dataset": {"synthetic": {"rows": 48_000, "seed": 0}},
    "teacher_sft": {
        "epochs": 4,
        "optimizer": {"learning_rate": 2.0e-3, "batch_size": 16, "weight_decay": 0.05, "beta_2": 0.98},
    },
}
# What `teach` made, kept in the tree: trained on another machine it would be another teacher, and no record would count. The demo's too.
TEACHER = Path(__file__).parents[2] / "recipes" / "models" / "string-tasks"
_STUDENTS: dict[str, dict[str, Any]] = {
    "tasks": {"student": {"from": "teacher", "drop_layers": 2}, "dataset": _TEACHER["dataset"]},
    "smollm2": {"student": {"from": "teacher", "drop_layers": 18}, "precision": "fp32"},
}


def models(work: Path, family: Family, smollm2: Path | None) -> tuple[str, str]:
    """Names of the family's teacher and student under work/models, which are put there where they are not."""
    kind = "smollm2" if family.name == "dolly" else "tasks"
    teacher, student = f"{kind}-teacher", f"{kind}-student"
    if not (work / "models" / student).exists():
        given = TEACHER if kind == "tasks" else smollm2
        assert given is not None
        _keep(given, work / "models" / teacher)
        rows = {"dataset": {"train": str(work / "rows" / family.name / str(family.seeds[0]) / "train.jsonl")}}
        spec = _GIVEN | rows | _STUDENTS[kind] | {"teacher": {"local": teacher}}
        _cut(spec, work / "making" / kind, (work / "models",))
        _keep(work / "making" / kind / "base-student", work / "models" / student)
    return teacher, student


def teach(work: Path) -> Path:
    """Train the teacher of the string tasks as `TEACHER` was: the folder that it is in. Goes on where it was cut off."""
    _cut(_GIVEN | _TEACHER, work / "teaching", ())
    return work / "teaching" / "teacher"


def digest(work: Path, names: Iterable[str]) -> str:
    """Of the weights of the models that `models` named."""
    found = sha256()
    for name in names:
        found.update((work / "models" / name / "model.safetensors").read_bytes())
    return found.hexdigest()[:12]


def _cut(spec: dict[str, Any], out: Path, roots: tuple[Path, ...]) -> None:
    """Run a job as far as the student that is cut from its teacher."""
    seen: list[Event] = []

    def cut() -> bool:
        return any(isinstance(event, Checkpointed) and event.path == "base-student" for event in seen)

    config = RunConfig.model_validate_json(json.dumps(spec))
    try:
        pipeline.run(config, inputs=Inputs(model_roots=roots), out=out, emit=seen.append, should_stop=cut, probes=False)
    except StopRequested:
        return


def _keep(model: Path, into: Path) -> None:
    if not into.exists():
        into.parent.mkdir(parents=True, exist_ok=True)
        with sealing(into) as draft:
            ignored = shutil.ignore_patterns("manifest.json")
            shutil.copytree(model, draft, dirs_exist_ok=True, ignore=ignored)


def rows(work: Path, family: Family, seed: int, dolly: Path | None) -> dict[str, Path]:
    """The family's files for this seed: its own training and validation rows, and test rows that all seeds share."""
    folder = work / "rows" / family.name / str(seed)
    if not folder.exists():
        made = _dolly(family, seed, dolly) if family.name == "dolly" else _strings(family, seed)
        with sealing(folder) as draft:
            for split, lines in made.items():
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                (draft / f"{split}.jsonl").write_text(text, "utf-8")
    return {split: folder / f"{split}.jsonl" for split in ("train", "validation", "test")}


def _strings(family: Family, seed: int) -> dict[str, list[Row]]:
    """Rows of the project's own tasks. The stream is as long as the splits need; the teacher's seed is 0."""
    own, shared = streams(60_000, 1000 + seed), streams(60_000, family.test_seed)
    return {
        "train": corrupted([*islice(own["train"], family.training_rows)], family.corrupted, Random(f"{seed}/train")),
        "validation": corrupted(
            [*islice(own["validation"], family.validation_rows)], family.corrupted, Random(f"{seed}/validation")
        ),
        "test": [*islice(shared["test"], family.test_rows)],
    }


def _dolly(family: Family, seed: int, dolly: Path | None) -> dict[str, list[Row]]:
    """Short rows of the given file, no prompt twice. Test rows are drawn once; of what is left every seed has a part of its own."""
    assert dolly is not None
    by_prompt = {(row["instruction"], row["input"]): row for row in _lines(dolly) if _characters(row) < _SHORT}
    drawn = [*by_prompt.values()]
    Random(f"{family.test_seed}/dolly").shuffle(drawn)
    test, rest = drawn[: family.test_rows], drawn[family.test_rows :]
    size = family.training_rows + family.validation_rows
    at = size * (*family.tuning_seeds, *family.seeds).index(seed)
    own = rest[at : at + size]
    if len(own) < size:
        raise ValueError(f"{dolly} has too few short rows for seed {seed}: {len(drawn)} in all")
    return {"train": own[family.validation_rows :], "validation": own[: family.validation_rows], "test": test}


# Characters of a row: some 80 tokens with the chat template at the most.
_SHORT = 240


def _characters(row: Row) -> int:
    return len(row["instruction"]) + len(row["input"]) + len(row["output"])


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def corrupted(clean: list[Row], share: float, random: Random) -> list[Row]:
    """The rows with `share` of their responses replaced by another row's of the same category, never by an equal one."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for row in clean:
        by_kind[row["category"]].append(row["output"])
    chosen = set(random.sample(range(len(clean)), round(share * len(clean))))
    return [_spoilt(row, by_kind[row["category"]], random) if i in chosen else row for i, row in enumerate(clean)]


def _spoilt(row: Row, others: list[str], random: Random) -> Row:
    wrong = [other for other in others if other != row["output"]]
    return row | {"output": random.choice(wrong)}
