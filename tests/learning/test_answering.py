"""A model that is served says what it says when it is asked by hand, in pieces that add up."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from cpd_engine.config import GenerationSpec
from cpd_engine.conversation import Ask, Message, Said, Template
from cpd_engine.data.encode import encode_prompts, encode_texts, end_id
from cpd_engine.data.records import Row, Turn
from cpd_engine.generate import Answer, generate
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load
from cpd_engine.serving import Served
from tests.learning.small_models import CPU, decoder

TURNS = (Turn("system", "Be brief."), Turn("user", "What do 3 and 4 make?"))
MESSAGES = (Message(role="system", content="Be brief."), Message(role="user", content="What do 3 and 4 make?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory."""
    root = tmp_path_factory.mktemp("served")
    decoder(root, kind="gpt2")
    return next(root.iterdir())


def heard(folder: Path, ask: Ask, *, template: Template = "chat", stop_after: int | None = None) -> list[Said]:
    """All that the model says to a question; with `stop_after` it is taken back after so many pieces."""
    said: list[Said] = []
    served = Served(folder, template, device="cpu", threads=1)
    served.answer("q", ask, said.append, lambda: stop_after is not None and len(said) >= stop_after)
    return said


def by_hand(model: Decoder, ask: Ask, *, template: Template) -> Answer:
    """The same by the engine's own generation."""
    tokenizer = model.tokenizer
    if ask.prompt is not None:
        prompts = encode_texts(tokenizer, [ask.prompt], "paper")
    else:
        chosen = "chat" if template == "auto" else template
        row = Row(
            id="", instruction="Be brief.\n\nWhat do 3 and 4 make?", input="", response="", references=(), turns=TURNS
        )
        prompts = encode_prompts(tokenizer, [row], chosen)
    settings = GenerationSpec(temperature=ask.temperature, top_p=ask.top_p, max_new_tokens=ask.max_tokens)
    ends = {end_id(tokenizer, "chat"), end_id(tokenizer, "paper")}
    return generate(model, prompts, settings=settings, end_ids=ends, seeds=[ask.seed], stops=ask.stop)[0]


@pytest.mark.parametrize("template", ["paper", "chat", "auto"])
@pytest.mark.parametrize(
    "ask",
    [
        Ask(messages=MESSAGES, max_tokens=20, temperature=0.0),
        Ask(messages=MESSAGES, max_tokens=20, temperature=1.3, top_p=0.9, seed=2**62),
        Ask(prompt="3 and 4", max_tokens=20, seed=7),
    ],
    ids=["greedy", "drawn", "text"],
)
def test_an_answer_is_that_of_the_same_model_by_hand(folder: Path, ask: Ask, template: Template) -> None:
    model = load(folder, dtype=CPU.frozen_dtype)
    expected = by_hand(model, ask, template=template)

    *pieces, last = heard(folder, ask, template=template)

    assert (last.text, last.finish_reason, last.completion_tokens) == (
        expected.text, expected.finish_reason, len(expected.tokens),
    )  # fmt: skip
    assert last.prompt_tokens > 0
    grown = [piece.text for piece in pieces] + [last.text]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(grown))


def test_an_answer_ends_before_a_stop_text_of_which_nothing_is_shown(folder: Path) -> None:
    free = Ask(prompt="3 and 4", max_tokens=40, seed=3)
    text = heard(folder, free)[-1].text
    stop = text[len(text) // 2 :][:2]

    *pieces, last = heard(folder, Ask(prompt="3 and 4", max_tokens=40, seed=3, stop=(stop, "never said")))

    assert last.finish_reason == "stop"
    assert last.text == text[: text.index(stop)]
    assert all(last.text.startswith(piece.text) for piece in pieces)


def test_a_prompt_without_room_and_an_answer_nobody_waits_for_are_told_as_what_they_are(folder: Path) -> None:
    too_long = heard(folder, Ask(prompt="7" * 2000, max_tokens=5))
    assert [said.code for said in too_long] == ["context_length_exceeded"]
    taken_back = heard(folder, Ask(prompt="3 and 4", max_tokens=500, seed=3), stop_after=2)
    assert [said.code for said in taken_back] == [None, None, "cancelled"]
    before_it_began = heard(folder, Ask(prompt="3", max_tokens=5), stop_after=0)
    assert [said.code for said in before_it_began] == ["cancelled"]
