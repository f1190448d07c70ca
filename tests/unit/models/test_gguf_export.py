"""GGUF files read back by transformers: the same tokens and, to the precision that was asked for, the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from cpd_engine.config import TinyModel
from cpd_engine.errors import ConfigInvalid, UnsupportedModel
from cpd_engine.models.gguf_export import Precision, export
from cpd_engine.models.tiny import build_tiny

TEXTS = ["one two three, 12 and 34", "Ünïcödé → ✓ wörds", "we're it's  spaces\n\nlines"] * 5
FAMILIES: tuple[Literal["llama", "qwen2"], ...] = ("llama", "qwen2")


def model(folder: Path, family: Literal["llama", "qwen2", "gpt2"], **changes: Any) -> Path:
    """A tiny model in which every weight, norms and biases too, is its own, and which has fewer heads of keys than of queries."""
    made = build_tiny(TinyModel(tiny=family, layers=2, hidden=64, heads=4, vocabulary=400), TEXTS, folder).model
    with torch.no_grad():
        for number, weight in enumerate(made.parameters()):
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
    if changes:
        config = made.config.__class__(**(made.config.to_dict() | changes))
        torch.manual_seed(1)
        made = AutoModelForCausalLM.from_config(config)
    made.save_pretrained(folder)
    return folder


def read_back(file: Path) -> Any:
    quantized = GgufConfig(dequantize=True)
    where = {"gguf_file": file.name, "local_files_only": True}
    return AutoModelForCausalLM.from_pretrained(
        file.parent, dtype=torch.float32, quantization_config=quantized, **where
    )


def logits(loaded: Any) -> torch.Tensor:
    with torch.no_grad():
        found = loaded.eval()(input_ids=torch.arange(5, 45)[None]).logits
    assert isinstance(found, torch.Tensor)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 1e-5), ("f16", 5e-3), ("q8_0", 8e-2)])
def test_the_file_is_the_same_model(
    family: Literal["llama", "qwen2"], precision: Precision, tolerance: float, tmp_path: Path
) -> None:
    folder = model(tmp_path / "model", family)
    export(folder, tmp_path / "model.gguf", precision=precision)
    wanted = logits(AutoModelForCausalLM.from_pretrained(folder))
    found = logits(read_back(tmp_path / "model.gguf"))

    assert float((found - wanted).abs().max()) <= tolerance * float(wanted.abs().max())
    assert (found.argmax(-1) == wanted.argmax(-1)).float().mean() > 0.9


def test_fewer_heads_of_keys_and_a_head_of_its_own_are_kept(tmp_path: Path) -> None:
    changes = {
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5e4},
    }
    folder = model(tmp_path / "model", "llama", **changes)
    export(folder, tmp_path / "model.gguf", precision="f32")
    loaded = read_back(tmp_path / "model.gguf")

    assert torch.allclose(logits(loaded), logits(AutoModelForCausalLM.from_pretrained(folder)), rtol=1e-4, atol=1e-5)
    assert (loaded.config.num_key_value_heads, loaded.config.tie_word_embeddings) == (2, False)


def test_the_file_has_the_tokenizer_s_tokens_under_the_name_that_llama_cpp_knows(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "qwen2")
    export(folder, tmp_path / "model.gguf", precision="f16")
    ours = AutoTokenizer.from_pretrained(folder)
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf", local_files_only=True)
    fields = GGUFReader(tmp_path / "model.gguf").fields

    assert fields["tokenizer.ggml.pre"].contents() == "qwen2"
    assert fields["tokenizer.ggml.eos_token_id"].contents() == ours.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == ours.chat_template
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours(text)["input_ids"]
        assert theirs.decode(ours(text)["input_ids"]) == text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mlp_bias": True}, "mlp_bias"),
        ({"attention_bias": True}, "attention_bias"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_parameters"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "llama", **changes)

    with pytest.raises(UnsupportedModel, match=why):
        export(folder, tmp_path / "model.gguf", precision="f16")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_another_family_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"this is gpt2; .*convert_hf_to_gguf"):
        export(model(tmp_path / "model", "gpt2"), tmp_path / "model.gguf", precision="f16")


def test_a_tokenizer_that_llama_cpp_would_split_otherwise_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "model", "llama")
    told = json.loads((folder / "tokenizer.json").read_text())
    told["normalizer"] = {"type": "NFKC"}
    (folder / "tokenizer.json").write_text(json.dumps(told))

    with pytest.raises(UnsupportedModel, match="splits text by rules"):
        export(folder, tmp_path / "model.gguf", precision="f16")


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("mine")

    with pytest.raises(ConfigInvalid, match="exists"):
        export(model(tmp_path / "model", "llama"), tmp_path / "model.gguf", precision="f16")
    assert (tmp_path / "model.gguf").read_text() == "mine"
