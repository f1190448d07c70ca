"""Samples in one row without padding against the same samples one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BloomConfig, BloomForCausalLM, PhimoeConfig, PhimoeForCausalLM

from cpd_engine.config import LoraSpec
from cpd_engine.data.batches import Batch, Segments, pack, pad
from cpd_engine.data.encode import Sample
from cpd_engine.models.attention import by_mask, by_segment
from cpd_engine.models.decoder import Decoder, wrap
from cpd_engine.models.lora import attach_lora
from tests.unit.models.families import FAMILIES, GATED, decoder, tokenizer

# Gemma 2 caps its attention's scores, so transformers gives it eager attention.
PACKED = [family for family in FAMILIES if family != "gemma2"]


def _samples() -> list[Sample]:
    """Shorter and longer than the sliding window of 8, and of a single token."""
    random = np.random.default_rng(0)
    lengths = ((5, 2), (30, 4), (1, 0), (12, 11), (9, 1))
    return [
        Sample(id=str(row), row=row, input_ids=random.integers(2, 300, size=n).astype(np.int32), prompt_length=prompt)
        for row, (n, prompt) in enumerate(lengths)
    ]


def _one_by_one(made: Decoder, samples: list[Sample]) -> Tensor:
    """By the model's plain forward pass."""
    states = []
    for sample in samples:
        ids = torch.from_numpy(sample.input_ids.astype(np.int64))[None]
        first = max(sample.prompt_length, 1)
        states.append(made.hidden(ids, torch.ones_like(ids, dtype=torch.bool))[0, first - 1 : -1])
    return torch.cat(states)


@pytest.mark.parametrize("family", PACKED)
@torch.no_grad()
def test_a_packed_sample_has_the_states_it_has_alone(family: str) -> None:
    made = decoder(family)
    assert made.packs
    samples = _samples()
    torch.testing.assert_close(made.states(pack(samples)), _one_by_one(made, samples), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_padded_sample_has_the_states_it_has_alone(family: str) -> None:
    made = decoder(family)
    samples = _samples()
    torch.testing.assert_close(made.states(pad(samples)), _one_by_one(made, samples), rtol=1e-5, atol=1e-5)


# Recomputation is for training only, where some families drop out at random.
@pytest.mark.parametrize(
    ("family", "checkpointing"), [*((f, False) for f in PACKED), ("llama", True), ("mistral", True)]
)
def test_packed_gradients_are_those_of_the_samples_one_by_one(family: str, checkpointing: bool) -> None:
    def gradients(together: bool) -> dict[str, Tensor]:
        made = decoder(family)
        if checkpointing and together:
            made.model.train()
            made.checkpoint_gradients(True)
        samples = _samples()
        states = made.states(pack(samples)) if together else _one_by_one(made, samples)
        made.logits(states).logsumexp(-1).sum().backward()
        return {name: p.grad for name, p in made.model.named_parameters() if p.grad is not None}

    alone, packed = gradients(together=False), gradients(together=True)
    assert alone.keys() == packed.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(packed[name], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()) + 1e-6)


@torch.no_grad()
def test_a_model_with_an_adapter_packs_as_well() -> None:
    made = attach_lora(decoder("qwen2"), LoraSpec(rank=2), seed=0)
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    samples = _samples()
    torch.testing.assert_close(made.states(pack(samples)), _one_by_one(made, samples), rtol=1e-5, atol=1e-5)


def test_a_family_whose_attention_knows_no_segments_is_not_packed_and_computes_as_before() -> None:
    config = BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=4)
    made = wrap(BloomForCausalLM(config).eval(), tokenizer())
    assert not made.packs
    assert made.model.config._attn_implementation != "cpd_packed"


def test_a_family_whose_window_is_only_in_the_mask_is_not_packed() -> None:
    """Phi-MoE tells attention no window; what its probe of eight tokens gives is right, and longer samples would see too much."""

    def made(window: int | None) -> Decoder:
        settings = {name: value for name, value in GATED.items() if name != "bos_token_id"}
        config = PhimoeConfig(
            vocab_size=300,
            num_local_experts=2,
            num_experts_per_tok=1,
            sliding_window=window,
            bos_token_id=1,
            **settings,
        )
        return wrap(PhimoeForCausalLM(config).eval(), tokenizer())

    assert made(None).packs
    assert not made(9).packs


def test_gemma_2_is_not_packed() -> None:
    assert not decoder("gemma2").packs


@pytest.mark.parametrize("window", [None, 3, 8, 40])
@pytest.mark.parametrize("groups", [4, 2])
def test_one_call_under_a_block_mask_is_one_call_for_each_sample(window: int | None, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    bounds = (0, 1, 8, 30, 31, 50)
    segments = Segments(bounds=bounds, starts=torch.tensor(bounds, dtype=torch.int32), longest=22)

    def normal(heads: int) -> Tensor:
        return torch.randn(1, heads, bounds[-1], 8, generator=generator, dtype=torch.float64)

    query, key, value = normal(4), normal(groups), normal(groups)
    options = {"window": window, "scaling": 0.3, "dropout": 0.0}
    torch.testing.assert_close(
        by_mask(query, key, value, segments, **options),  # type: ignore[arg-type]  # one dict for both
        by_segment(query, key, value, segments, **options),  # type: ignore[arg-type]
    )


def test_a_saved_config_says_nothing_of_packing() -> None:
    assert "cpd_packed" not in decoder("llama").model.config.to_json_string()


def test_a_batch_moves_whole() -> None:
    batch: Batch = pack(_samples()).to("meta")
    assert batch.segments is not None
    tensors = (batch.input_ids, batch.position_ids, batch.predicting, batch.targets, batch.segments.starts)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
