"""Model folders that mean harm: nothing of theirs runs, no memory is given for what they only describe, and each is refused by its code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cpd_engine.config import LocalModel
from cpd_engine.errors import EngineError, ModelNotFound, UnsafeModelFormat, UnsupportedModel
from cpd_engine.inputs import Inputs
from cpd_engine.models.load import load, resolve, save
from tests.unit.models.families import decoder

EVIL = "import pathlib\npathlib.Path({canary!r}).touch()\nclass Evil: pass\n"
Change = Callable[[Path, Path], None]


class Touches:
    """An object whose unpickling makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (str(self.canary), os.O_CREAT)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "good"
    save(decoder("llama"), path)
    return path


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "roots" / "model"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that is there once something of the model's has run."""
    return tmp_path / "canary"


def edited(**fields: Any) -> Change:
    """config.json with other fields."""
    return in_file("config.json", **fields)


def in_file(name: str, **fields: Any) -> Change:
    def change(path: Path, _canary: Path) -> None:
        (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | fields))

    return change


def written(name: str, content: bytes) -> Change:
    def change(path: Path, _canary: Path) -> None:
        (path / name).write_bytes(content)

    return change


def pickled(name: str, *, instead: bool) -> Change:
    """A pickle under this name, beside the weights or in their place."""

    def change(path: Path, canary: Path) -> None:
        if instead:
            (path / "model.safetensors").unlink()
        (path / name).write_bytes(pickle.dumps(Touches(canary)))

    return change


def both(*changes: Change) -> Change:
    def change(path: Path, canary: Path) -> None:
        for each in changes:
            each(path, canary)

    return change


def code(path: Path, canary: Path) -> None:
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py"):
        (path / name).write_text(EVIL.format(canary=str(canary)))


def header(text: bytes, body: bytes = b"", *, length: int | None = None) -> Change:
    """model.safetensors made of this header."""
    return written("model.safetensors", struct.pack("<Q", len(text) if length is None else length) + text + body)


def tensor(**changed: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changed}).encode()


AUTO = {"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
CODE: dict[str, tuple[Change, type[EngineError]]] = {
    "weights as a pickle": (pickled("pytorch_model.bin", instead=True), UnsafeModelFormat),
    "a pickle that calls itself safetensors": (pickled("model.safetensors", instead=True), UnsupportedModel),
    "a shard that is a pickle": (
        both(pickled("shard.bin", instead=True), written("model.safetensors.index.json", b'{"weight_map": {"a": "shard.bin"}}')),
        UnsafeModelFormat,
    ),
    "an adapter that is a pickle": (
        both(pickled("adapter_model.bin", instead=False), written("adapter_config.json", b'{"peft_type": "LORA", "r": 1}')),
        UnsupportedModel,
    ),
    "a tokenizer that is a pickle": (pickled("tokenizer.json", instead=False), UnsupportedModel),
    "code in the model": (both(code, edited(auto_map=AUTO)), UnsafeModelFormat),
    "code in a part of the model": (both(code, edited(text_config={"auto_map": AUTO})), UnsafeModelFormat),
    "code in the tokenizer": (
        both(code, in_file("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]})),
        UnsafeModelFormat,
    ),
    "code of another repository": (edited(auto_map={"AutoModelForCausalLM": "evil/repo--modeling.Evil"}), UnsafeModelFormat),
    "attention of another repository": (edited(attn_implementation="evil/kernel"), UnsafeModelFormat),
    "attention of one, for a part": (edited(attn_implementation={"text_config": "evil/kernel:attend"}), UnsafeModelFormat),
    "experts of another repository": (edited(experts_implementation="evil/kernel"), UnsafeModelFormat),
}  # fmt: skip
SIZES: dict[str, tuple[Change, type[EngineError]]] = {
    "a billion layers": (edited(num_hidden_layers=10**9), UnsafeModelFormat),
    "more layers than tensors": (edited(num_hidden_layers=500), UnsafeModelFormat),
    "a vocabulary of 2^40": (edited(vocab_size=2**40), UnsafeModelFormat),
    "a width of 2^20": (edited(hidden_size=2**20), UnsafeModelFormat),
    "an inner width of 2^40": (edited(intermediate_size=2**40), UnsafeModelFormat),
    "numbers as text": (edited(hidden_size="wide"), UnsupportedModel),
    "a negative width": (edited(hidden_size=-4), UnsupportedModel),
    "no head": (edited(num_attention_heads=0), UnsupportedModel),
    "a field that hides a method": (edited(get_text_config="a"), UnsupportedModel),
    "a tokenizer of another shape": (written("tokenizer.json", b'{"model": {"type": "Evil"}}'), UnsupportedModel),
    "a tokenizer 500 levels deep": (written("tokenizer.json", b"[" * 500), UnsupportedModel),
    "a configuration 100,000 levels deep": (written("config.json", b'{"a":' * 100_000), UnsupportedModel),
    "a header longer than its file": (header(b"{}", length=2**62), UnsupportedModel),
    "a header of 2 GB": (header(b"{}", length=2**31), UnsupportedModel),
    "a header 100,000 levels deep": (header(b'{"a":' * 100_000), UnsupportedModel),
    "a header that is a list": (header(b"[]"), UnsupportedModel),
    "a header with a key twice": (header(b'{"a": ' + tensor()[6:-1] + b', "a": 1}', bytes(4)), UnsupportedModel),
    "a tensor beyond the file": (header(tensor(data_offsets=[0, 2**40]), bytes(4)), UnsupportedModel),
    "a tensor that ends before it begins": (header(tensor(data_offsets=[4, 0]), bytes(4)), UnsupportedModel),
    "a tensor larger than its bytes": (header(tensor(shape=[2**40]), bytes(4)), UnsupportedModel),
    "a shape that overflows": (header(tensor(shape=[2**62, 2**62]), bytes(4)), UnsupportedModel),
    "a negative shape": (header(tensor(shape=[-1]), bytes(4)), UnsupportedModel),
    "a type that is none": (header(tensor(dtype="PICKLE"), bytes(4)), UnsupportedModel),
    "bytes that no tensor has": (header(tensor(), bytes(400)), UnsupportedModel),
    "no byte at all": (written("model.safetensors", b""), UnsupportedModel),
}  # fmt: skip


@pytest.mark.parametrize(("change", "error"), CODE.values(), ids=CODE)
def test_no_code_of_a_model_runs(change: Change, error: type[EngineError], model: Path, canary: Path) -> None:
    change(model, canary)

    with pytest.raises(error):
        load(model, dtype=torch.float32)
    assert not canary.exists()


def test_the_canaries_would_sing(canary: Path) -> None:
    pickle.loads(pickle.dumps(Touches(canary)))
    assert canary.exists()
    canary.unlink()
    exec(EVIL.format(canary=str(canary)))
    assert canary.exists()


def test_pickles_and_code_beside_good_weights_are_not_looked_at(model: Path, canary: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"):
        pickled(name, instead=False)(model, canary)
    code(model, canary)
    (model / "custom_generate").mkdir()
    (model / "custom_generate" / "generate.py").write_text(EVIL.format(canary=str(canary)))

    assert load(model, dtype=torch.float32).vocabulary == 300
    assert not canary.exists()


@pytest.mark.parametrize(("change", "error"), SIZES.values(), ids=SIZES)
def test_what_only_describes_is_refused_before_memory_is_given(
    change: Change, error: type[EngineError], model: Path, canary: Path
) -> None:
    change(model, canary)

    with pytest.raises(error) as refused:
        load(model, dtype=torch.float32)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("where", ["deep", "loop", "secret"])
def test_a_link_is_followed_no_further_than_the_operators_folders(model: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "secret").write_text("{{ messages }}")
    templates = model / "additional_chat_templates"
    match where:
        case "deep":
            templates.mkdir()
            (templates / "other.jinja").symlink_to(tmp_path / "secret")
        case "loop":
            templates.symlink_to(templates)
        case _:
            (model / "merges.txt").symlink_to("../../secret")

    with pytest.raises(ModelNotFound, match="points outside"):
        resolve(LocalModel(local="model"), inputs=Inputs(model_roots=(model.parent,)))
