"""The name of a set of teacher's states: a hash of all that their bits depend on, so that equal names hold equal bits."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cpd_engine.data.encode import Sample
from cpd_engine.states.digests import Digests

# Of the files' layout. A change of what is kept or how is a new format, which finds nothing of an old one.
FORMAT = 1
# The files of every kind of tokenizer that transformers reads.
_TOKENIZERS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*.model",
    "*.tiktoken",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """`teacher` and `data` are digests. `temperatures` belong to top_k alone: hidden states know none.

    `numerics`: device, threads and versions of libraries, on which the last bits of every product depend; a run that fills anew what
    was evicted must meet the bits it began with.
    """

    teacher: str
    data: str
    template: str
    max_length: int
    vocabulary: int
    dtype: str
    top_k: int | None
    temperatures: tuple[float, ...]
    numerics: tuple[str, ...]

    @property
    def name(self) -> str:
        """32 hex digits."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def data_digest(samples: Iterable[Sample]) -> str:
    """sha256 over token ids and prompt lengths in the samples' order; ids of rows do not matter."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(struct.pack("<qq", len(sample.input_ids), sample.prompt_length))
        digest.update(sample.input_ids.astype("<i4").tobytes())
    return digest.hexdigest()


def model_digest(path: Path, files: Digests) -> str:
    """sha256 over config and weights of a model directory, as they are now, whatever a manifest beside them says."""
    return _digest(path, ("config.json", "*.safetensors*"), files)


def decoder_digest(path: Path, files: Digests) -> str:
    """`model_digest`, and the tokenizer's files: what a model scores ends at the largest id, and what it says is words by its tokenizer."""
    return _digest(path, ("config.json", "*.safetensors*", *_TOKENIZERS), files)


def _digest(path: Path, patterns: Iterable[str], files: Digests) -> str:
    wanted = sorted({file.name for pattern in patterns for file in path.glob(pattern) if file.is_file()})
    found = [[name, files.of(path / name)] for name in wanted]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
