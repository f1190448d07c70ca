"""Equal names for equal bits, and another name as soon as anything they depend on is another."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpd_engine import checkpoint
from cpd_engine.data.encode import Sample
from cpd_engine.states.digests import Digests
from cpd_engine.states.key import Key, data_digest, decoder_digest, model_digest

KEY = Key(
    teacher="t",
    data="d",
    template="paper",
    max_length=512,
    vocabulary=100,
    dtype="torch.float32",
    top_k=8,
    temperatures=(1.0, 2.0),
    numerics=("cpu", "1 threads"),
)
OTHER: dict[str, Any] = {
    "teacher": "u",
    "data": "e",
    "template": "chat",
    "max_length": 256,
    "vocabulary": 101,
    "dtype": "torch.bfloat16",
    "top_k": None,
    "temperatures": (1.0,),
    "numerics": ("cpu", "2 threads"),
}


def _sample(ids: list[int], prompt_length: int, name: str = "a") -> Sample:
    return Sample(id=name, row=0, input_ids=np.array(ids, dtype=np.int32), prompt_length=prompt_length)


def _model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_every_part_of_the_key_is_tried() -> None:
    assert OTHER.keys() == {field.name for field in dataclasses.fields(Key)}


@pytest.mark.parametrize("part", OTHER)
def test_another_part_is_another_name(part: str) -> None:
    assert dataclasses.replace(KEY, **{part: OTHER[part]}).name != KEY.name
    assert dataclasses.replace(KEY).name == KEY.name


def test_data_is_its_token_ids_and_prompt_lengths_in_order() -> None:
    base = data_digest([_sample([1, 2, 3], 1), _sample([4, 5], 1)])
    assert data_digest([_sample([1, 2, 3], 1, name="b"), _sample([4, 5], 1)]) == base
    different = [
        [_sample([4, 5], 1), _sample([1, 2, 3], 1)],
        [_sample([1, 2, 3], 2), _sample([4, 5], 1)],
        [_sample([1, 2], 1), _sample([3, 4, 5], 1)],
        [_sample([1, 2, 4], 1), _sample([4, 5], 1)],
        [_sample([1, 2, 3], 1)],
    ]
    assert len({base, *map(data_digest, different)}) == 6


def test_a_model_is_its_config_and_weights_wherever_it_lies(tmp_path: Path) -> None:
    files = Digests(tmp_path)
    base = model_digest(_model(tmp_path / "a"), files)
    copy = _model(tmp_path / "b")
    (copy / "tokenizer.json").write_text("{ }")
    assert model_digest(copy, files) == base
    assert model_digest(_model(tmp_path / "c", b"others"), files) != base


def test_a_decoder_is_a_model_with_its_tokenizer(tmp_path: Path) -> None:
    files, model = Digests(tmp_path), _model(tmp_path / "a")
    bare, weights = decoder_digest(model, files), model_digest(model, files)
    found = {bare}
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model"):
        (model / name).write_text(f"of {name}")
        found.add(decoder_digest(model, files))
    assert len(found) == 6
    (model / "README.md").write_text("A card.")
    assert decoder_digest(model, files) in found
    assert model_digest(model, files) == weights


def test_a_manifest_beside_a_model_is_not_believed(tmp_path: Path) -> None:
    files, base = Digests(tmp_path), model_digest(_model(tmp_path / "a"), Digests(tmp_path))
    sealed = tmp_path / "sealed"
    with checkpoint.sealing(sealed) as draft:
        for file in (tmp_path / "a").iterdir():
            (draft / file.name).write_bytes(file.read_bytes())
    assert model_digest(sealed, files) == base
    (sealed / "model.safetensors").write_bytes(b"put there later")
    assert model_digest(sealed, files) != base
    (sealed / checkpoint.MANIFEST).write_text("somebody else's")
    assert model_digest(sealed, files) != base


def test_a_large_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"first")
    digest = Digests(tmp_path).of(file)
    state = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert Digests(tmp_path).of(file) == digest  # same size, time and inode: believed without a look
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert Digests(tmp_path).of(file) != digest


def test_a_torn_memory_of_digests_is_no_memory(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"first")
    digest = Digests(tmp_path).of(file)
    (tmp_path / "digests.json").write_text("{")
    assert Digests(tmp_path).of(file) == digest
