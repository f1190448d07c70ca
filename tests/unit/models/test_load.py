from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cpd_engine.config import LocalModel
from cpd_engine.errors import (
    EngineError,
    ModelNotFound,
    UnsafeModelFormat,
    UnsupportedModel,
    VocabularyMismatch,
)
from cpd_engine.inputs import Inputs
from cpd_engine.models.load import check_vocabularies, load, load_tokenizer, resolve, save
from cpd_engine.models.tiny import train_tokenizer
from tests.shared_data import shared_data
from tests.unit.models.families import decoder, tokenizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "good"
    save(decoder("llama"), path)
    return path


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "roots" / "model"))


def _edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def _pickle_only(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def _no_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def _half_of_the_weights(path: Path) -> None:
    tensors = load_file(path / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layers.1" not in name}
    save_file(kept, path / "model.safetensors", {"format": "pt"})


def _index(shard: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        _no_weights(path)
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lm_head.weight": shard}}))

    return change


REFUSED: list[tuple[str, Callable[[Path], None], type[EngineError], str]] = [
    ("pickle", _pickle_only, UnsafeModelFormat, r"only pytorch_model\.bin"),
    ("nothing", _no_weights, UnsafeModelFormat, "no weights"),
    ("half", _half_of_the_weights, UnsafeModelFormat, r"weights are missing from its files, such as model\.layers\.1"),
    ("shard outside", _index("../../secret.safetensors"), UnsafeModelFormat, "no safetensors file beside it"),
    ("shard pickled", _index("shard.bin"), UnsafeModelFormat, "no safetensors file beside it"),
    ("shard missing", _index("model-1.safetensors"), UnsafeModelFormat, "model-1.safetensors is missing"),
    (
        "code in the model",
        lambda path: _edit(path / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}),
        UnsafeModelFormat,
        "code of its own",
    ),
    (
        "code in the tokenizer",
        lambda path: _edit(path / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        UnsafeModelFormat,
        "code of its own",
    ),
    (
        "t5",
        lambda path: _edit(path / "config.json", model_type="t5", is_encoder_decoder=True),
        UnsupportedModel,
        "encoder-decoder",
    ),
    (
        "clip",
        lambda path: _edit(path / "config.json", model_type="clip"),
        UnsupportedModel,
        "not a causal language model",
    ),
    ("images", lambda path: _edit(path / "config.json", vision_config={}), UnsupportedModel, "images or sound"),
    (
        "quantised",
        lambda path: _edit(path / "config.json", quantization_config={"bits": 4}),
        UnsupportedModel,
        "quantised",
    ),
    ("not JSON", lambda path: _write(path / "config.json", "{"), UnsupportedModel, "not a JSON object"),
    ("not a model", lambda path: (path / "config.json").unlink(), ModelNotFound, r"no config\.json"),
    ("torn", lambda path: _write(path / "model.safetensors", "torn"), UnsupportedModel, "is no safetensors file"),
]


def _write(file: Path, text: str) -> None:
    file.write_text(text)


@pytest.mark.parametrize(
    ("change", "error", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_is_unsafe_or_unfit_is_refused(
    change: Callable[[Path], None], error: type[EngineError], message: str, copied: Path
) -> None:
    change(copied)
    with pytest.raises(error, match=message):
        load(copied, dtype=torch.float32)


def test_a_good_model_comes_back_in_eval_mode_with_the_same_weights(saved: Path) -> None:
    made, again = decoder("llama"), load(saved, dtype=torch.float32)
    assert not again.model.training
    assert again.vocabulary == 300
    assert again.parameters == made.parameters == sum(p.numel() for p in made.model.parameters())
    for name, tensor in made.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_weights_are_loaded_in_the_type_that_is_asked_for(saved: Path) -> None:
    made = load(saved, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in made.model.parameters()} == {torch.bfloat16}


def test_sharded_weights_are_loaded(saved: Path, tmp_path: Path) -> None:
    made = decoder("llama")
    made.model.save_pretrained(tmp_path, max_shard_size="20KB")
    made.tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    again = load(tmp_path, dtype=torch.float32)
    assert all(torch.equal(again.model.state_dict()[name], t) for name, t in made.model.state_dict().items())


def test_a_local_model_is_found_under_the_operators_folders_only(saved: Path, tmp_path: Path) -> None:
    inputs = Inputs(model_roots=(tmp_path, saved.parent))
    assert resolve(LocalModel(local="good"), inputs=inputs).path == saved
    with pytest.raises(ModelNotFound, match="no such folder"):
        resolve(LocalModel(local="good"), inputs=Inputs(model_roots=(tmp_path,)))


def test_a_link_out_of_the_operators_folders_is_refused(copied: Path, saved: Path) -> None:
    root = copied.parent
    (root / "elsewhere").symlink_to(saved)
    with pytest.raises(ModelNotFound, match="points outside"):
        resolve(LocalModel(local="elsewhere"), inputs=Inputs(model_roots=(root,)))
    (copied / "model.safetensors").unlink()
    (copied / "model.safetensors").symlink_to(saved / "model.safetensors")
    with pytest.raises(ModelNotFound, match=r"model\.safetensors points outside"):
        resolve(LocalModel(local="model"), inputs=Inputs(model_roots=(root,)))
    assert resolve(LocalModel(local="model"), inputs=Inputs(model_roots=(root, saved.parent))).path == copied


def test_equal_vocabularies_give_the_largest_id_plus_one() -> None:
    assert check_vocabularies(tokenizer(), tokenizer()) == 300


def test_the_first_token_that_differs_is_named() -> None:
    other = train_tokenizer(["entirely different words"] * 3, 300)
    vocabulary, theirs = tokenizer().get_vocab(), other.get_vocab()
    first = min(i for i in range(300) if tokenizer().convert_ids_to_tokens(i) != other.convert_ids_to_tokens(i))
    with pytest.raises(VocabularyMismatch, match=f"id {first} is") as caught:
        check_vocabularies(tokenizer(), other)
    assert repr(tokenizer().convert_ids_to_tokens(first)) in str(caught.value)
    assert f"({len(vocabulary)} and {len(theirs)} tokens)" in str(caught.value)


def test_a_token_that_one_of_them_lacks_is_named() -> None:
    longer = train_tokenizer(["abc"], 300)
    shorter = train_tokenizer(["abc"], 300)
    longer.add_tokens(["<tool>"])
    with pytest.raises(VocabularyMismatch, match="is '<tool>' for the teacher and no token for the student"):
        check_vocabularies(longer, shorter)


def test_real_tokenizers_of_different_families_do_not_match() -> None:
    gpt2 = load_tokenizer(shared_data("tokenizers", "gpt2"))
    qwen = load_tokenizer(shared_data("tokenizers", "Qwen1.5-1.8B"))
    assert check_vocabularies(qwen, qwen) == 151646
    with pytest.raises(VocabularyMismatch, match="tokens"):
        check_vocabularies(gpt2, qwen)
