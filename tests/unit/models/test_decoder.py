from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertLMHeadModel

from cpd_engine.config import LoraSpec
from cpd_engine.errors import ConfigInvalid, UnsupportedModel
from cpd_engine.models.decoder import wrap
from cpd_engine.models.load import load, save
from cpd_engine.models.lora import attach_lora, merge_lora
from tests.unit.models.families import FAMILIES, decoder, model, tokenizer


def _ids(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(2, 300, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_hidden_states_through_head_scale_and_cap_are_the_models_own_logits(family: str) -> None:
    made = decoder(family)
    ids = _ids()
    own = made.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert own.shape[-1] == 312
    torch.testing.assert_close(
        made.logits(made.hidden(ids, torch.ones_like(ids, dtype=torch.bool))), own[..., :300], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("family", "scale", "cap"), [("granite", 0.125, None), ("cohere", 0.0625, None), ("gemma2", 1.0, 0.5)]
)
def test_scale_and_cap_are_found(family: str, scale: float, cap: float | None) -> None:
    made = decoder(family)
    assert (made.logit_scale, made.soft_cap) == (scale, cap)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padding_on_the_right_changes_no_real_position(family: str) -> None:
    made = decoder(family)
    ids = _ids(1, 12)
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[:, 7:] = False
    torch.testing.assert_close(made.hidden(ids, mask)[:, :7], made.hidden(ids[:, :7]), atol=1e-5, rtol=1e-5)


def test_the_head_is_the_parameters_themselves_and_gradients_flow_through_it() -> None:
    made = decoder("phi")
    weight, bias = made.head
    assert bias is not None
    assert (weight.shape, bias.shape) == ((312, 32), (312,))
    full = made.model.get_output_embeddings()
    assert weight.data_ptr() == full.weight.data_ptr()
    made.logits(made.hidden(_ids())).square().sum().backward()
    assert full.weight.grad is not None
    assert full.weight.grad[:300].abs().sum() > 0
    assert full.weight.grad[300:].abs().sum() == 0


def test_logits_that_come_about_in_an_unknown_way_are_refused() -> None:
    made = model("llama")
    plain = made.forward

    def doubled(**given: Any) -> Any:
        return SimpleNamespace(logits=2 * plain(**given).logits)

    made.forward = doubled
    with pytest.raises(UnsupportedModel, match="in a way this engine does not know"):
        wrap(made, tokenizer())


def test_a_model_that_sees_later_tokens_is_refused() -> None:
    config = BertConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        is_decoder=False,
    )
    with pytest.raises(UnsupportedModel):
        wrap(BertLMHeadModel(config).eval(), tokenizer())


def test_a_head_narrower_than_the_tokenizer_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="scores 290 ids but its tokenizer has 300"):
        wrap(model("llama", padding=-10), tokenizer())


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "phi3"])
def test_lora_reaches_every_linear_layer_but_the_head_and_merges_back(family: str, tmp_path: Path) -> None:
    made = decoder(family)
    linear = {
        name
        for name, module in made.model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    } - {"lm_head"}
    names = {name for name, _ in made.model.named_parameters()}
    before = made.logits(made.hidden(_ids())).detach()
    adapted = attach_lora(made, LoraSpec(rank=2, alpha=4.0), seed=0)
    found = {name.removesuffix(".lora_A") for name, _ in made.model.named_modules() if name.endswith(".lora_A")}
    assert found == linear
    torch.testing.assert_close(made.logits(made.hidden(_ids())), before)

    trained = {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained)
    for name, parameter in made.model.named_parameters():
        if name in trained:
            nn.init.normal_(parameter, std=0.3)
    with_lora = made.logits(made.hidden(_ids())).detach()
    assert (with_lora - before).abs().max() > 1e-2
    merged = merge_lora(adapted)
    assert {name for name, _ in merged.model.named_parameters()} == names
    torch.testing.assert_close(merged.logits(merged.hidden(_ids())), with_lora, atol=1e-4, rtol=1e-4)

    save(merged, tmp_path)
    assert not list(tmp_path.glob("adapter*"))
    again = load(tmp_path, dtype=torch.float32)
    assert torch.equal(again.logits(again.hidden(_ids())), merged.logits(merged.hidden(_ids())))


def test_an_adapter_follows_from_its_seed_alone() -> None:
    def drawn(seed: int) -> list[torch.Tensor]:
        made = attach_lora(decoder("llama"), LoraSpec(rank=2), seed=seed)
        return [parameter for parameter in made.model.parameters() if parameter.requires_grad]

    first = drawn(1)
    torch.manual_seed(7)
    again, other = drawn(1), drawn(2)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_a_second_adapter_is_refused() -> None:
    made = attach_lora(decoder("llama"), LoraSpec(rank=2), seed=0)
    with pytest.raises(ConfigInvalid, match="already attached"):
        attach_lora(made, LoraSpec(rank=2), seed=0)


@pytest.mark.parametrize("lora", [False, True])
def test_gradient_checkpointing_changes_no_gradient(lora: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        made = decoder("qwen2")
        if lora:
            attach_lora(made, LoraSpec(rank=2), seed=0)
        if checkpointing:
            made.checkpoint_gradients(True)
        made.model.train()
        made.logits(made.hidden(_ids(), torch.ones(2, 12, dtype=torch.bool))).logsumexp(-1).sum().backward()
        gradients.append([p.grad for p in made.model.parameters() if p.grad is not None])
    plain, recomputed = gradients
    assert len(plain) == len(recomputed) > 0
    for left, right in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(left, right)


@torch.no_grad()
def test_gpt_2_keeps_its_activation_as_one_operation() -> None:
    plain = model("gpt2")
    wanted = plain(input_ids=_ids()).logits[..., :300]
    made = wrap(plain, tokenizer())
    assert any(isinstance(module, torch.nn.GELU) for module in made.model.modules())
    torch.testing.assert_close(made.logits(made.hidden(_ids())), wanted, rtol=1e-5, atol=1e-5)


def test_an_adapter_on_the_head_is_refused() -> None:
    made = model("llama")
    get_peft_model(made, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "lm_head"], r=2))  # in place
    with pytest.raises(UnsupportedModel, match="adapter on its head"):
        wrap(made, tokenizer())
