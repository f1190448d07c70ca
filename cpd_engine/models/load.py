"""From a model reference to a loaded decoder: find it, refuse what is unsafe or unfit, load it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from cpd_engine.config import HubModel, LocalModel
from cpd_engine.errors import ModelNotFound, UnsafeModelFormat, UnsupportedModel, VocabularyMismatch
from cpd_engine.inputs import Inputs
from cpd_engine.models.decoder import Decoder as Decoder
from cpd_engine.models.decoder import vocabulary_size, wrap
from cpd_engine.models.files import check_directory, check_inside
from cpd_engine.models.hub import MODEL_FILES, fetch
from cpd_engine.models.sizes import check_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Where a model lies. `commit`: of a hub model; `pinned`: it was named by branch or tag, to be told to the user."""

    path: Path
    commit: str | None = None
    pinned: bool = False


def resolve(ref: HubModel | LocalModel, *, inputs: Inputs) -> Resolved:
    """The checked directory of a hub or local model. Tiny models and students cut from their teacher are made, not found.

    Raises ModelNotFound, HubUnavailable, UnsafeModelFormat or UnsupportedModel.
    """
    if isinstance(ref, HubModel):
        snapshot = fetch(ref.hub, ref.revision, kind="model", patterns=MODEL_FILES, inputs=inputs)
        check_directory(snapshot.path)
        return Resolved(path=snapshot.path, commit=snapshot.commit, pinned=snapshot.pinned)
    for root in inputs.model_roots:
        path = root / ref.local
        if path.is_dir():
            check_inside(path, inputs.model_roots)
            check_directory(path)
            return Resolved(path=path)
    raise ModelNotFound(f"local model {ref.local!r}: no such folder under the operator's model folders")


def load(path: Path, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Decoder:
    """Load a model directory: safetensors only, no code of its own, no network. In eval mode.

    Raises as `check_directory`, UnsafeModelFormat where weights are missing (they would be random), UnsupportedModel as `wrap`.
    """
    check_sizes(path, check_directory(path))
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # whatever transformers comes upon in a stranger's files
        raise UnsupportedModel(f"{path.name}: transformers cannot load it ({error})") from error
    model, info = loaded
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise UnsafeModelFormat(f"{path.name}: weights are missing from its files, such as {missing}")
    return wrap(model.to(device).eval(), load_tokenizer(path))


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory. UnsupportedModel where transformers cannot load it."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # as above; the tokenizers' own error is a bare Exception
        said = " ".join(str(error).split())
        raise UnsupportedModel(
            f"{path.name}: transformers cannot load its tokenizer; name a folder with its tokenizer.json ({said})"
        ) from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def save(decoder: Decoder, out: Path) -> None:
    """Write weights (safetensors), config and tokenizer into a directory that `load` and plain transformers read."""
    transformers_logging.disable_progress_bar()
    decoder.model.save_pretrained(out)
    decoder.tokenizer.save_pretrained(out)


def check_vocabularies(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> int:
    """V, where both map the same ids to the same tokens; otherwise VocabularyMismatch naming the first id that differs."""
    by_teacher = {index: token for token, index in teacher.get_vocab().items()}
    by_student = {index: token for token, index in student.get_vocab().items()}
    if by_teacher == by_student:
        return vocabulary_size(teacher)
    first = min(i for i in by_teacher.keys() | by_student.keys() if by_teacher.get(i) != by_student.get(i))
    ours, theirs = by_teacher.get(first), by_student.get(first)
    raise VocabularyMismatch(
        f"teacher and student use different vocabularies: id {first} is {_shown(ours)} for the teacher and {_shown(theirs)} for "
        f"the student ({len(by_teacher)} and {len(by_student)} tokens). Distillation compares them id by id; use a pair of one family."
    )


def _shown(token: str | None) -> str:
    return "no token" if token is None else repr(token)
