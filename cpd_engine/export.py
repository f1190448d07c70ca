"""The student as a user downloads it: a directory that plain transformers loads, and what a person needs to judge it.

Beside the weights lie the card, where they come from (`lineage.json`), how to make them again (`spec.json`, `reproduce.sh`) and the
sha256 of every file (`SHA256SUMS`). The caller seals the directory, which adds `manifest.json`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase

from cpd_engine import checkpoint
from cpd_engine.card import Card, render_card
from cpd_engine.config import GenerationSpec, RunConfig
from cpd_engine.lineage import Source
from cpd_engine.reproduction import SCRIPT, SPEC, SUMS, script

# Of a trained student's directory; training.json tells of the training and not of the model.
_NOT_FOR_USERS = shutil.ignore_patterns(checkpoint.MANIFEST, "training.json")


def write_export(
    out: Path,
    *,
    trained: Path,
    tokenizer: PreTrainedTokenizerBase,
    end_id: int,
    generation: GenerationSpec,
    profile: Path,
    card: Card,
    again: RunConfig,
    files: Mapping[str, Source],
) -> tuple[str, ...]:
    """Fill the directory `out` and return its formats: "merged", and "adapter" where `trained` holds one.

    `trained`: merged weights, config and perhaps adapter/ of the student; `profile`: holds profile.json and profile.png. `again`: the
    spec with everything pinned; `files`: the rows that it names, as it names them. `end_id`: the token that ends an answer under the
    run's template. The weights are copied as they are, so their bits are those that were evaluated.
    """
    shutil.copytree(trained, out, ignore=_NOT_FOR_USERS, dirs_exist_ok=True)
    tokenizer.save_pretrained(out)
    _generation_config(tokenizer, end_id, generation).save_pretrained(out)
    for name in ("profile.json", "profile.png"):
        shutil.copyfile(profile / name, out / name)
    checkpoint.write_json(out / "report.json", asdict(card.reported))
    write_spec(out / SPEC, again)
    checkpoint.write_json(out / "lineage.json", asdict(card.lineage), sort_keys=False)
    (out / SCRIPT).write_text(script(card.lineage, files), "utf-8")
    weights = [
        checkpoint.hash_file(out, path.relative_to(out).as_posix()) for path in sorted(out.rglob("*.safetensors"))
    ]
    (out / "README.md").write_text(render_card(card, weights), "utf-8")
    (out / SUMS).write_text(_sums(out), "utf-8")
    return ("merged", "adapter") if (out / "adapter").is_dir() else ("merged",)


def write_spec(path: Path, config: RunConfig) -> None:
    """A spec as the engine, `cpd submit` and the REST API take it."""
    checkpoint.write_json(path, config.model_dump(mode="json"), sort_keys=False)


def _sums(out: Path) -> str:
    """Every file as `sha256sum --check` reads it."""
    paths = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return "".join(f"{checkpoint.hash_file(out, path).sha256}  {path}\n" for path in paths)


def _generation_config(tokenizer: PreTrainedTokenizerBase, end_id: int, spec: GenerationSpec) -> GenerationConfig:
    """The settings that the scores were made with. Sampling settings are written only where it samples: transformers warns otherwise."""
    sampling = {"temperature": spec.temperature, "top_p": spec.top_p, "top_k": spec.top_k} if spec.temperature else {}
    return GenerationConfig(
        do_sample=bool(spec.temperature),
        max_new_tokens=spec.max_new_tokens,
        no_repeat_ngram_size=spec.no_repeat_ngram_size,
        eos_token_id=end_id,
        pad_token_id=end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        **sampling,
    )
