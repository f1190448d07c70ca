from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cpd_engine.config import GenerationSpec
from cpd_engine.data.batches import Batch, pad
from cpd_engine.data.encode import Sample
from cpd_engine.errors import ConfigInvalid
from cpd_engine.generate import generate
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load, save
from cpd_engine.models.prune import block_influence, decoder_layers, drop_layers, least_influential
from tests.unit.models.families import FAMILIES, LAYERS, decoder


def _batches() -> list[Batch]:
    generator = np.random.default_rng(0)
    samples = [
        Sample(id=str(n), row=n, input_ids=generator.integers(2, 300, size=n).astype(np.int32), prompt_length=1)
        for n in (12, 7, 9)
    ]
    return [pad(samples[:2]), pad(samples[2:])]


def _ids() -> torch.Tensor:
    return torch.randint(2, 300, (2, 20), generator=torch.Generator().manual_seed(0))


def _cosines(made: Decoder, ids: torch.Tensor) -> list[torch.Tensor]:
    """cos(input, output) of each token at each layer, in float64 and by the book, of one sequence without padding."""
    found: list[torch.Tensor] = []

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        before = (args[0] if args else kwargs["hidden_states"])[0].double()
        after = (output if isinstance(output, torch.Tensor) else output[0]).double().reshape(before.shape)
        found.append((before * after).sum(-1) / (before.norm(dim=-1) * after.norm(dim=-1)))

    hooks = [layer.register_forward_hook(look, with_kwargs=True) for layer in decoder_layers(made)]
    made.hidden(ids[None])
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_influence_is_one_minus_the_mean_cosine_of_input_and_output(family: str) -> None:
    made = decoder(family)
    sequences = [
        row[mask]
        for batch in _batches()
        if batch.attention_mask is not None
        for row, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    by_layer = zip(*(_cosines(made, ids) for ids in sequences), strict=True)
    expected = [float(1 - torch.cat(cosines).mean()) for cosines in by_layer]
    np.testing.assert_allclose(block_influence(made, _batches()), expected, atol=1e-5)
    assert len(expected) == LAYERS


@torch.no_grad()
def test_a_layer_that_does_nothing_has_no_influence_and_goes_first() -> None:
    made = decoder("llama")
    for name, parameter in decoder_layers(made)[1].named_parameters():
        if name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            parameter.zero_()
    influence = block_influence(made, _batches())
    assert influence[1] == pytest.approx(0.0, abs=1e-6)
    assert least_influential(influence, 1) == [1]
    cut = drop_layers(made, [1])
    torch.testing.assert_close(cut.hidden(_ids()), made.hidden(_ids()), atol=1e-6, rtol=1e-6)


def _answers(made: Decoder) -> list[tuple[int, ...]]:
    prompts = [np.arange(2, 2 + length, dtype=np.int32) for length in (5, 11)]
    settings = GenerationSpec(max_new_tokens=10)
    return [answer.tokens for answer in generate(made, prompts, settings=settings, end_ids=[], seeds=[0, 0])]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dropped", [[0], [1], [0, 2]])
@torch.no_grad()
def test_what_is_left_saves_reloads_and_caches_like_any_model(family: str, dropped: list[int], tmp_path: Path) -> None:
    made = decoder(family)
    before = made.logits(made.hidden(_ids()))
    cut = drop_layers(made, dropped)
    assert cut.model.config.num_hidden_layers == len(decoder_layers(cut)) == LAYERS - len(dropped)
    torch.testing.assert_close(made.logits(made.hidden(_ids())), before, atol=0, rtol=0)

    save(cut, tmp_path)
    again = load(tmp_path, dtype=torch.float32)
    logits = cut.logits(cut.hidden(_ids()))
    assert torch.equal(again.logits(again.hidden(_ids())), logits)
    assert (logits - before).abs().max() > 1e-3

    for prompt_length, answer in zip((5, 11), _answers(again), strict=True):
        tokens = list(range(2, 2 + prompt_length))
        for token in answer:
            assert int(cut.logits(cut.hidden(torch.tensor([tokens])))[0, -1].argmax()) == token
            tokens.append(token)


@pytest.mark.parametrize("layers", [[3], [-1], [0, 1, 2]])
def test_layers_that_are_not_there_or_all_of_them_cannot_go(layers: list[int]) -> None:
    with pytest.raises(ConfigInvalid, match="of a model with layers 0 to 2"):
        drop_layers(decoder("gpt2"), layers)


@pytest.mark.parametrize("count", [0, 3, 9])
def test_at_least_one_layer_goes_and_one_stays(count: int) -> None:
    with pytest.raises(ConfigInvalid, match="at least one must go and one must stay"):
        least_influential([0.1, 0.2, 0.3], count)


def test_at_a_tie_the_earlier_layer_goes() -> None:
    assert least_influential([0.3, 0.1, 0.1, 0.1], 2) == [1, 2]
