from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from cpd_engine.data.encode import (
    PAPER_TEMPLATE,
    Template,
    encode,
    encode_prompts,
    end_id,
    render_prompt,
)
from cpd_engine.data.records import Row, Turn
from cpd_engine.data.source import read_files
from cpd_engine.errors import ConfigInvalid, UnsupportedModel
from cpd_engine.models.load import load_tokenizer
from cpd_engine.models.tiny import train_tokenizer
from tests.shared_data import shared_data

GPT2, LLAMA, QWEN = "gpt2", "tinyllama-1.1b-3T", "Qwen1.5-1.8B"
ALL = [(GPT2, "paper"), (LLAMA, "paper"), (QWEN, "paper"), (QWEN, "chat")]


@cache
def _load(name: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(shared_data("tokenizers", name))


@cache
def _dolly() -> tuple[Row, ...]:
    return tuple(read_files([shared_data("dolly", "test.jsonl")], max_bad_fraction=0.0))


def _row(instruction: str = "What is the capital of France?", given_input: str = "", response: str = "Paris") -> Row:
    return Row("a", instruction, given_input, response, (response,))


def _ids(tokenizer: PreTrainedTokenizerBase, row: Row, template: Template = "paper") -> tuple[list[int], list[int]]:
    """Prompt and supervised ids."""
    (sample,) = encode([row], tokenizer, template=template, max_length=4096).samples
    ids = sample.input_ids.tolist()
    return ids[: sample.prompt_length], ids[sample.prompt_length :]


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return cast("str", tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def test_the_paper_template_is_figure_5_with_and_without_an_input() -> None:
    prompt = render_prompt(_load(GPT2), _row("Add {x}.", "1 {2}"), "paper")
    assert prompt == (
        "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd {x}.\n\n### Input:\n1 {2}\n\n### Response:\n"
    )
    assert render_prompt(_load(GPT2), _row("Hi"), "paper") == PAPER_TEMPLATE.format(instruction="Hi", input="")


def test_the_chat_template_is_the_tokenizers_own_over_the_user_turn() -> None:
    prompt = render_prompt(_load(QWEN), _row("Add.", "1 2"), "chat")
    assert prompt == "<|im_start|>user\nAdd.\n\n1 2<|im_end|>\n<|im_start|>assistant\n"


def test_a_conversation_keeps_its_turns_in_the_chat_template() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Ho"), Turn("user", "Bye"))
    prompt = render_prompt(_load(QWEN), Row("a", "…", "", "Ciao", ("Ciao",), turns), "chat")
    assert prompt.count("<|im_start|>") == 5
    assert prompt.startswith("<|im_start|>system\nBe brief.<|im_end|>")


def test_a_tokenizer_without_chat_template_is_told_so() -> None:
    with pytest.raises(ConfigInvalid, match="use template: paper"):
        render_prompt(_load(GPT2), _row(), "chat")


def test_a_tokenizer_without_end_token_is_told_so() -> None:
    tokenizer = train_tokenizer(["a b c"], 300)
    tokenizer.eos_token = None
    with pytest.raises(UnsupportedModel, match="no end-of-sequence token"):
        end_id(tokenizer, "paper")


@pytest.mark.parametrize(
    ("name", "template", "end"),
    [(GPT2, "paper", 50256), (LLAMA, "paper", 2), (QWEN, "paper", 151643), (QWEN, "chat", 151645)],
)
def test_a_response_ends_in_the_token_that_ends_a_turn(name: str, template: Template, end: int) -> None:
    assert end_id(_load(name), template) == end
    assert _ids(_load(name), _row(), template)[1][-1] == end


@pytest.mark.parametrize(("name", "template"), ALL)
def test_dolly_rows_have_one_end_one_start_and_come_back_as_text(name: str, template: Template) -> None:
    tokenizer, rows = _load(name), _dolly()[:150]
    end = end_id(tokenizer, template)
    prompts = encode_prompts(tokenizer, rows, template)
    encoded = encode(rows, tokenizer, template=template, max_length=100_000)
    assert len(encoded.samples) == len(rows)
    for row, prompt, sample in zip(rows, prompts, encoded.samples, strict=True):
        before, after = np.split(sample.input_ids, [sample.prompt_length])
        np.testing.assert_array_equal(before, prompt)
        assert (after == end).sum() == 1
        assert after[-1] == end
        starts = [] if tokenizer.bos_token_id in (None, tokenizer.eos_token_id) else [tokenizer.bos_token_id]
        assert before[: len(starts)].tolist() == starts
        assert (before == (starts or [-1])[0]).sum() == len(starts)
        whole = _decode(tokenizer, sample.input_ids[len(starts) : -1].tolist())
        assert whole == render_prompt(tokenizer, row, template) + row.response


@pytest.mark.parametrize(("name", "template"), ALL)
@pytest.mark.parametrize(
    "response", ["Paris", " Paris", "\nParis", "\n\nParis", "\tParis", ":)", "7", "  indented", "é", "▁x"]
)
def test_no_token_crosses_the_cut_and_no_space_is_made_up(name: str, template: Template, response: str) -> None:
    tokenizer = _load(name)
    prompt, supervised = _ids(tokenizer, _row(response=response), template)
    other, _ = _ids(tokenizer, _row(response="something else"), template)
    assert prompt == other
    behind = _decode(tokenizer, prompt + supervised[:-1])
    assert behind.endswith(_decode(tokenizer, prompt)[-5:] + response.replace("▁", " " if name == LLAMA else "▁"))


def test_a_sentencepiece_response_begins_like_a_generation_in_place_would() -> None:
    tokenizer = _load(LLAMA)
    _, supervised = _ids(tokenizer, _row(response="Paris is big"))
    assert tokenizer.convert_ids_to_tokens(supervised) == ["Par", "is", "▁is", "▁big", "</s>"]


@pytest.mark.parametrize("name", [GPT2, LLAMA, QWEN])
def test_text_that_spells_a_special_token_forges_no_end(name: str) -> None:
    tokenizer = _load(name)
    forged = f"a {tokenizer.eos_token} b"
    prompt, supervised = _ids(tokenizer, _row(instruction=forged, response=forged))
    assert prompt.count(tokenizer.eos_token_id) == 0
    assert supervised.count(tokenizer.eos_token_id) == 1
    assert forged in _decode(tokenizer, prompt + supervised[:-1])


def test_rows_that_are_too_long_are_dropped_and_counted() -> None:
    tokenizer = _load(GPT2)
    rows = [_row(), _row(response="word " * 500), _row(instruction="word " * 500)]
    encoded = encode(rows, tokenizer, template="paper", max_length=256)
    assert [sample.row for sample in encoded.samples] == [0]
    assert encoded.dropped == {"overlong": 1, "overlong_prompt": 1}
    assert encoded.truncated == 0


def test_a_response_is_cut_at_its_end_and_the_prompt_never() -> None:
    tokenizer = _load(GPT2)
    rows = [_row(response="word " * 500), _row(instruction="word " * 500)]
    encoded = encode(rows, tokenizer, template="paper", max_length=128, overlong="truncate_response")
    (sample,) = encoded.samples
    assert (len(sample.input_ids), encoded.truncated, encoded.dropped) == (128, 1, {"overlong_prompt": 1})
    (prompt,) = encode_prompts(tokenizer, rows[:1], "paper")
    np.testing.assert_array_equal(sample.input_ids[: sample.prompt_length], prompt)
    assert sample.input_ids[-1] == tokenizer.eos_token_id
    assert (sample.input_ids == tokenizer.eos_token_id).sum() == 1


@pytest.mark.parametrize("spare", [0, -1])
def test_max_length_counts_prompt_response_and_end(spare: int) -> None:
    tokenizer = _load(GPT2)
    prompt, supervised = _ids(tokenizer, _row())
    encoded = encode([_row()], tokenizer, template="paper", max_length=len(prompt) + len(supervised) + spare)
    assert len(encoded.samples) == (1 if spare == 0 else 0)
