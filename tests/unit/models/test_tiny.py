from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpd_engine.config import TinyModel
from cpd_engine.data.synthetic import synthesize
from cpd_engine.errors import ConfigInvalid
from cpd_engine.models.load import check_vocabularies, load, load_tokenizer
from cpd_engine.models.tiny import build_tiny, train_tokenizer
from tests.shared_data import shared_data

Kind = Literal["gpt2", "llama", "qwen2"]
KINDS: tuple[Kind, ...] = ("gpt2", "llama", "qwen2")
TEXTS = [f"{row['instruction']} {row['input']} {row['output']}" for row in synthesize(240, 0)["train"]]


def _tiny(kind: Kind, seed: int = 0) -> TinyModel:
    return TinyModel(tiny=kind, layers=2, hidden=32, heads=2, vocabulary=400, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_tiny_model_loads_with_plain_transformers_and_computes_the_same(kind: Kind, tmp_path: Path) -> None:
    made = build_tiny(_tiny(kind), TEXTS, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert model.config.model_type == kind
    assert {file.suffix for file in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}
    for text in (TEXTS[0], "Ünï© ≠ \n\n 1234 </s>"):
        ids = tokenizer(text, return_tensors="pt").input_ids
        assert tokenizer.decode(ids[0]) == text
        assert ids[0].tolist() == made.tokenizer(text).input_ids
        torch.testing.assert_close(
            model(ids, attention_mask=torch.ones_like(ids)).logits, made.logits(made.hidden(ids))
        )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_follow_from_the_seed_and_nothing_else(kind: Kind, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = build_tiny(_tiny(kind), TEXTS, tmp_path / "a").model.state_dict()
    state = torch.random.get_rng_state()
    second = build_tiny(_tiny(kind), TEXTS, tmp_path / "b").model.state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build_tiny(_tiny(kind, seed=1), TEXTS, tmp_path / "c").model.state_dict()
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_tokenizer_is_the_same_in_another_process() -> None:
    code = (
        "from tests.unit.models.test_tiny import TEXTS\n"
        "from cpd_engine.models.tiny import train_tokenizer\n"
        "print(train_tokenizer(TEXTS, 600).backend_tokenizer.to_str(), end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == train_tokenizer(TEXTS, 600).backend_tokenizer.to_str()


def test_digits_stand_alone_and_every_text_has_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, None)
    assert tokenizer.decode(tokenizer("日本 \x7f").input_ids) == "日本 \x7f"


def test_two_tiny_models_of_one_text_share_their_vocabulary(tmp_path: Path) -> None:
    teacher = build_tiny(_tiny("llama"), TEXTS, tmp_path / "teacher")
    student = build_tiny(_tiny("gpt2"), (), tmp_path / "student", tokenizer=teacher.tokenizer)
    assert check_vocabularies(load_tokenizer(tmp_path / "teacher"), student.tokenizer) == 400


@pytest.mark.parametrize(("kind", "name"), [("gpt2", "gpt2"), ("llama", "gpt2"), ("qwen2", "Qwen1.5-1.8B")])
def test_a_tiny_student_takes_its_teachers_real_tokenizer(kind: Kind, name: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(shared_data("tokenizers", name))
    build_tiny(_tiny(kind), (), tmp_path, tokenizer=tokenizer)
    made = load(tmp_path, dtype=torch.float32)
    assert check_vocabularies(tokenizer, made.tokenizer) == made.vocabulary == {"gpt2": 50257}.get(name, 151646)


def test_a_tokenizer_that_would_change_on_loading_is_refused(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(shared_data("tokenizers", "gpt2"))
    with pytest.raises(ConfigInvalid, match="choose another tiny type"):
        build_tiny(_tiny("qwen2"), (), tmp_path, tokenizer=tokenizer)
