"""How models are called here, where OpenAI's API has one string and the engine a reference of several kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cpd_engine.config import LocalModel

MADE = re.compile(r"ft:(?P<job>job_[a-z0-9]{1,36}):(?P<checkpoint>[A-Za-z0-9][A-Za-z0-9._-]{0,119})")
_FROM_TEACHER = re.compile(r"from-teacher:(?P<layers>[0-9]{1,3})")
_TINY = re.compile(r"tiny:(?P<family>[a-z0-9]{1,16})")


def made(job_id: str, checkpoint: str) -> str:
    """What the checkpoint of a job is called as a model."""
    return f"ft:{job_id}:{checkpoint}"


def reference(name: str, roots: Sequence[Path]) -> dict[str, Any]:
    """The engine's reference to a model: `from-teacher:N` (N layers fewer), `tiny:FAMILY`, a folder of the operator's, else the hub's
    `org/name` or `org/name@revision`. Whether it exists, and may be used, is seen by whoever admits the job.
    """
    if cut := _FROM_TEACHER.fullmatch(name):
        return {"from": "teacher", "drop_layers": int(cut["layers"])}
    if tiny := _TINY.fullmatch(name):
        return {"tiny": tiny["family"]}
    if _is_local(name, roots):
        return {"local": name}
    repository, separator, revision = name.partition("@")
    return {"hub": repository, "revision": revision} if separator else {"hub": repository}


def called(model: Mapping[str, Any]) -> str:
    """The name of a reference; `reference` reads all but what a tiny model is made of out of it again."""
    match model:
        case {"from": "teacher", "drop_layers": layers}:
            return f"from-teacher:{layers}"
        case {"tiny": family}:
            return f"tiny:{family}"
        case {"local": name}:
            return str(name)
        case {"hub": name, "revision": str(revision)} if revision != "main":
            return f"{name}@{revision}"
        case _:
            return str(model["hub"])


def local_models(roots: Sequence[Path]) -> Iterator[tuple[str, float]]:
    """(name, time of its configuration) of every model in the operator's folders, as far down as two names."""
    for root in roots:
        for config in sorted([*root.glob("*/config.json"), *root.glob("*/*/config.json")]):
            name = config.parent.relative_to(root).as_posix()
            if _is_local(name, [root]):
                yield name, config.stat().st_mtime


def _is_local(name: str, roots: Sequence[Path]) -> bool:
    try:
        LocalModel(local=name)
    except ValidationError:
        return False
    return any((root / name / "config.json").is_file() for root in roots)
