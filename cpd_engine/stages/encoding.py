"""Part of phase `prepare`: the rows as token ids, encoded once and sealed; every later process maps the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from cpd_engine import checkpoint
from cpd_engine.data.encode import encode
from cpd_engine.data.files import SplitName
from cpd_engine.data.rows import Rows
from cpd_engine.data.store import Samples, sample_writer
from cpd_engine.errors import CheckpointCorrupt
from cpd_engine.stages.context import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A split as it lies in `encoded/`: `dropped` counts rows left out by reason, `truncated` responses that were cut short."""

    samples: Samples
    dropped: dict[str, int]
    truncated: int


def encode_rows(
    run: Run, rows: Mapping[SplitName, Rows], tokenizer: PreTrainedTokenizerBase, *, max_length: int, sha256: str
) -> dict[SplitName, Stored]:
    """Every split's samples in `encoded/`. `sha256`: that of the rows; with other rows, or another length, they are encoded anew."""
    of = {"sha256": sha256, "max_length": max_length}
    path = run.out / "encoded"
    if run.fleet.leads and _is_of_others(path, of):
        checkpoint.discard(path)
    with run.once("encoded") as mine, run.fleet.apart():
        if mine:
            _seal(run, rows, tokenizer, of)
    told = checkpoint.read_json(path / "encoded.json")
    return {split: Stored(samples=Samples(path / f"{split}.arrow"), **told[split]) for split in rows}


def _is_of_others(path: Path, of: Mapping[str, Any]) -> bool:
    try:
        return path.exists() and checkpoint.read_manifest(path).provenance != of
    except CheckpointCorrupt:
        return False  # which `once` warns of


def _seal(run: Run, rows: Mapping[SplitName, Rows], tokenizer: PreTrainedTokenizerBase, of: Mapping[str, Any]) -> None:
    with run.sealing("encoded", "encoded", provenance=of) as draft:
        told = {
            split: _write(run, draft / f"{split}.arrow", split, found, tokenizer, of["max_length"])
            for split, found in rows.items()
        }
        checkpoint.write_json(draft / "encoded.json", told)


def _write(
    run: Run, path: Path, split: SplitName, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, Any]:
    """One split's samples, chunk by chunk; what `Stored` tells beside them."""
    dropped: Counter[str] = Counter()
    truncated = 0
    report = run.progress("prepare", f"tokens of {split} rows")
    config = run.config
    with sample_writer(path) as writer:
        for first, chunk in rows.chunks():
            found = encode(
                chunk,
                tokenizer,
                template=config.template,
                max_length=max_length,
                overlong=config.overlong,
                first=first,
            )
            writer.write(found.samples)
            dropped.update(found.dropped)
            truncated += found.truncated
            report(first + len(chunk), len(rows))
    return {"dropped": dict(sorted(dropped.items())), "truncated": truncated}
