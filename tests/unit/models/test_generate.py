from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from cpd_engine.config import GenerationSpec
from cpd_engine.data.encode import Ids
from cpd_engine.errors import StopRequested
from cpd_engine.generate import Answer, generate, row_seed
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.tiny import ROLES
from tests.unit.models.families import FAMILIES, decoder

END = 1
LENGTHS = (9, 3, 14, 5, 1, 9, 20, 2)


def _prompts(lengths: Sequence[int] = LENGTHS) -> list[Ids]:
    generator = np.random.default_rng(0)
    return [generator.integers(2, 300, size=length).astype(np.int32) for length in lengths]


def _generate(
    made: Decoder, prompts: Sequence[Ids], *, end_ids: Sequence[int] = (END,), **settings: Any
) -> list[Answer]:
    spec = GenerationSpec(**{"max_new_tokens": 24, "batch_size": 3} | settings)
    seeds = [row_seed(10, str(index)) for index in range(len(prompts))]
    return generate(made, prompts, settings=spec, end_ids=end_ids, seeds=seeds)


def _theirs(made: Decoder, prompt: Ids, *, max_new_tokens: int, **settings: Any) -> list[int]:
    """What transformers' own `generate` answers, with the ids that no tokenizer has ruled out."""
    made.model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=0)
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    model: Any = made.model
    tokens: list[int] = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        suppress_tokens=list(range(300, 312)),
        max_new_tokens=max_new_tokens,
        **settings,
    )[0, len(prompt) :].tolist()
    return tokens[: tokens.index(END)] if END in tokens else tokens


@torch.no_grad()
def _without_cache(made: Decoder, prompt: Ids, steps: int) -> list[int]:
    tokens: list[int] = prompt.tolist()
    for _ in range(steps):
        tokens.append(int(made.logits(made.hidden(torch.tensor([tokens])))[0, -1].argmax()))
        if tokens[-1] == END:
            return tokens[len(prompt) : -1]
    return tokens[len(prompt) :]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_transformers_own_and_those_without_a_cache(family: str) -> None:
    made = decoder(family)
    prompts = _prompts((9, 3, 14, 1))
    for prompt, answer in zip(prompts, _generate(made, prompts, max_new_tokens=12), strict=True):
        assert list(answer.tokens) == _without_cache(made, prompt, 12)
        assert list(answer.tokens) == _theirs(made, prompt, max_new_tokens=12)


@pytest.mark.parametrize("ngram", [1, 2, 3])
def test_no_ngram_occurs_twice_as_transformers_has_it(ngram: int) -> None:
    made = decoder("llama")
    prompts = _prompts((9, 3, 14, 1))
    for prompt, answer in zip(prompts, _generate(made, prompts, no_repeat_ngram_size=ngram), strict=True):
        assert list(answer.tokens) == _theirs(made, prompt, max_new_tokens=24, no_repeat_ngram_size=ngram)
        whole = [*prompt.tolist(), *answer.tokens]
        new = [tuple(whole[i : i + ngram]) for i in range(max(0, len(prompt) - ngram + 1), len(whole) - ngram + 1)]
        assert len(set(new)) == len(new)


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8, "top_k": 20}])
def test_an_answer_does_not_depend_on_batch_size_or_order(family: str, settings: dict[str, Any]) -> None:
    made = decoder(family)
    prompts = _prompts()
    seeds = [row_seed(10, str(index)) for index in range(len(prompts))]
    alone = _generate(made, prompts, batch_size=1, **settings)
    assert _generate(made, prompts, batch_size=8, **settings) == alone
    assert _generate(made, prompts, batch_size=3, **settings) == alone
    spec = GenerationSpec(max_new_tokens=24, batch_size=3, **settings)
    backwards = generate(made, prompts[::-1], settings=spec, end_ids=[END], seeds=seeds[::-1])
    assert backwards[::-1] == alone


def test_sampling_is_of_the_seed_of_the_row() -> None:
    made = decoder("gpt2")
    prompts = [_prompts()[0]] * 2
    spec = GenerationSpec(temperature=1.0, max_new_tokens=24)
    first = generate(made, prompts, settings=spec, end_ids=[END], seeds=[5, 5])
    other = generate(made, prompts, settings=spec, end_ids=[END], seeds=[5, 6])
    assert first[0] == first[1] == other[0] != other[1]
    assert row_seed(10, "a") != row_seed(20, "a") != row_seed(20, "b")


def test_each_answer_has_room_for_its_own_number_of_tokens_the_end_counted() -> None:
    made = decoder("gpt2")
    prompts, spec = _prompts(), GenerationSpec(max_new_tokens=24, batch_size=3)
    free = generate(made, prompts, settings=spec, end_ids=[], seeds=[0] * len(prompts))
    rooms = [1, 2, 30, 4, 5, 24, 3, 7]
    bounded = generate(made, prompts, settings=spec, end_ids=[], seeds=[0] * len(prompts), rooms=rooms)
    assert [one.tokens for one in bounded] == [one.tokens[:room] for one, room in zip(free, rooms, strict=True)]
    # The fifth token of an answer ends it: there is room for that where five are allowed, and not where four are.
    place = next(at for at, one in enumerate(free) if one.tokens[4] not in one.tokens[:4])
    for room, reason in ((5, "stop"), (4, "length")):
        (cut,) = generate(
            made, [prompts[place]], settings=spec, end_ids=[free[place].tokens[4]], seeds=[0], rooms=[room]
        )
        assert (cut.tokens, cut.finish_reason) == (free[place].tokens[:4], reason)


# With a filter that takes nothing away as well: ids are then sorted first.
@pytest.mark.parametrize("more", [{}, {"top_k": 1000}])
@torch.no_grad()
def test_tokens_are_drawn_with_the_models_probabilities(more: dict[str, Any]) -> None:
    made = decoder("gpt2")
    prompt, count = _prompts()[0], 4000
    spec = GenerationSpec(temperature=1.3, max_new_tokens=1, batch_size=500, **more)
    answers = generate(made, [prompt] * count, settings=spec, end_ids=[], seeds=range(count))
    wanted = (made.logits(made.hidden(torch.from_numpy(prompt.astype(np.int64))[None]))[0, -1] / 1.3).softmax(-1)
    found = torch.bincount(torch.tensor([answer.tokens[0] for answer in answers]), minlength=300) / count
    expected = (
        0.5 * (2 * wanted * (1 - wanted) / (torch.pi * count)).sqrt().sum()
    )  # total variation of an honest sample
    assert 0.5 * (found - wanted).abs().sum() < 1.2 * expected


@pytest.mark.parametrize(
    "settings", [{"top_k": 3}, {"top_p": 0.35}, {"top_k": 5, "top_p": 0.5}, {"top_p": 1e-6}, {"top_k": 1}]
)
@torch.no_grad()
def test_only_the_likeliest_tokens_are_drawn(settings: dict[str, Any]) -> None:
    made = decoder("gpt2")
    prompt = _prompts()[0]
    spec = GenerationSpec(temperature=1.0, max_new_tokens=1, batch_size=500, **settings)
    answers = generate(made, [prompt] * 500, settings=spec, end_ids=[], seeds=range(500))
    logits = made.logits(made.hidden(torch.from_numpy(prompt.astype(np.int64))[None]))[0, -1]
    probabilities, order = logits.softmax(-1).sort(descending=True)
    count = settings.get("top_k", 300)
    kept = probabilities[:count] / probabilities[:count].sum()
    nucleus = int((kept.cumsum(0) - kept < settings.get("top_p", 1.0)).sum())
    assert {answer.tokens[0] for answer in answers} == set(order[:nucleus].tolist())


def test_ids_that_no_tokenizer_has_are_never_chosen() -> None:
    made = decoder("llama")
    with torch.no_grad():
        made.model.get_output_embeddings().weight[300:] = 100.0
    answers = _generate(made, _prompts(), temperature=2.0)
    assert all(token < 300 for answer in answers for token in answer.tokens)


def test_the_end_token_stops_an_answer_and_is_not_part_of_it() -> None:
    made = decoder("llama")
    free = _generate(made, _prompts(), end_ids=[])
    assert all(answer.finish_reason == "length" and len(answer.tokens) == 24 for answer in free)
    end = free[0].tokens[3]
    stopped = _generate(made, _prompts(), end_ids=[end])
    for long, short in zip(free, stopped, strict=True):
        at = long.tokens.index(end) if end in long.tokens else 24
        assert short.tokens == long.tokens[:at]
        assert short.finish_reason == ("stop" if at < 24 else "length")


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_an_answer_that_is_at_the_end_of_the_positions_holds_up_no_other(family: str) -> None:
    made = decoder(family)
    prompts = _prompts((120, *[9] * 7))
    alone = [_generate(made, [prompt], end_ids=[], max_new_tokens=24)[0] for prompt in prompts]
    assert [len(answer.tokens) for answer in alone] == [8, *[24] * 7]
    assert _generate(made, prompts, end_ids=[], max_new_tokens=24, batch_size=8) == alone


def test_an_answer_ends_where_the_models_positions_end() -> None:
    made = decoder("gpt2")
    answers = _generate(made, _prompts((126, 128, 4)), end_ids=[])
    assert [len(answer.tokens) for answer in answers] == [2, 0, 24]
    assert {answer.finish_reason for answer in answers} == {"length"}


def test_progress_is_told_and_a_request_to_stop_obeyed() -> None:
    made = decoder("gpt2")
    told: list[tuple[int, int]] = []
    spec = GenerationSpec(max_new_tokens=2, batch_size=3)
    generate(made, _prompts(), settings=spec, end_ids=[], seeds=[0] * 8, on_progress=lambda *now: told.append(now))
    assert told == [(3, 8), (6, 8), (8, 8)]
    with pytest.raises(StopRequested):
        generate(made, _prompts(), settings=spec, end_ids=[], seeds=[0] * 8, should_stop=lambda: True)


def test_the_model_is_given_back_in_the_mode_it_came_in() -> None:
    made = decoder("gpt2")
    made.model.train()
    _generate(made, _prompts((2,)), max_new_tokens=1)
    assert made.model.training


def test_text_comes_without_special_tokens() -> None:
    made = decoder("gpt2")
    (answer,) = _generate(made, _prompts((4,)), end_ids=[])
    kept = [token for token in answer.tokens if token >= 2 + len(ROLES)]
    assert answer.text == made.tokenizer.decode(kept)


def test_an_answer_ends_before_a_stop_text_however_its_tokens_fall() -> None:
    made = decoder("llama")
    prompts = _prompts()
    spec = GenerationSpec(max_new_tokens=24, temperature=1.0, batch_size=3)
    seeds = [row_seed(10, str(index)) for index in range(len(prompts))]
    free = generate(made, prompts, settings=spec, end_ids=[], seeds=seeds)
    stop = free[0].text[5:9]
    for batch_size in (1, 3, 8):
        sized = spec.model_copy(update={"batch_size": batch_size})
        cut = generate(made, prompts, settings=sized, end_ids=[], seeds=seeds, stops=["never said", stop])
        for whole, short in zip(free, cut, strict=True):
            assert short.text == whole.text.partition(stop)[0]
            assert short.tokens == whole.tokens[: len(short.tokens)]
            assert short.finish_reason == ("stop" if stop in whole.text else "length")
            # Not a token longer than it takes to spell the text.
            assert stop not in made.tokenizer.decode(list(short.tokens[:-1]), skip_special_tokens=True)
    assert cut[0].finish_reason == "stop"
