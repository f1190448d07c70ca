"""What a suite's task and spec come to: templates, decoding, seeds, and the hash of it all."""

from __future__ import annotations

from typing import Any

import pytest

from cpd_engine.config import SuiteSpec
from cpd_engine.data.records import Row
from cpd_engine.evaluation.prompts import asked, plain_prompt
from cpd_engine.evaluation.settings import Settings, metrics, seeds, settings_of

ROW = Row("r", "Name {it}.", "A cat.", "cat", ("cat",))
BARE = Row("r", "Name it.", "", "cat", ("cat",))


def _spec(task: str, **fields: Any) -> SuiteSpec:
    return SuiteSpec.model_validate({"task": task, "data": "x", **fields})


def _settings(task: str, *, chat: bool = False, batch_size: int = 32, **fields: Any) -> Settings:
    return settings_of(_spec(task, **fields), chat=chat, batch_size=batch_size)


def test_texts_are_sampled_five_times_under_the_paper_s_settings() -> None:
    found = _settings("dolly")
    generation = found.generation
    assert (generation.temperature, generation.top_p, generation.top_k) == (1.0, 1.0, 0)
    assert (generation.max_new_tokens, generation.no_repeat_ngram_size, found.template) == (512, 0, "paper")
    assert seeds(_spec("dolly")) == (10, 20, 30, 40, 50)
    assert seeds(_spec("dolly", seeds=[3])) == (3,)


def test_minillm_has_shorter_answers_without_repeats_and_two_templates() -> None:
    found = _settings("self_instruct", settings="minillm")
    assert (found.generation.max_new_tokens, found.generation.no_repeat_ngram_size) == (256, 6)
    assert (found.generation.temperature, found.template) == (1.0, "minillm")
    assert "### Input:\nA cat.\n" in plain_prompt(ROW, "minillm")
    assert "paired with an input" in plain_prompt(ROW, "minillm")
    assert "Input" not in plain_prompt(BARE, "minillm")
    assert plain_prompt(BARE, "paper").endswith("### Instruction:\nName it.\n\n### Input:\n\n\n### Response:\n")


def test_maths_is_greedy_behind_worked_examples_and_stops_at_the_next_problem() -> None:
    found = _settings("gsm8k")
    assert (found.generation.temperature, found.generation.max_new_tokens, found.shots) == (0.0, 1024, 8)
    assert (_settings("math").shots, _settings("math", shots=0).shots) == (4, 0)
    assert found.stops == ("### Problem:",)
    assert seeds(_spec("gsm8k")) == ()
    prompt = plain_prompt(ROW, "maths", [("1+1?", "2. The answer is \\boxed{2}.")])
    assert prompt == (
        "### Problem:\n1+1?\nPlease reason step by step, and put your final answer within \\boxed{}.\n\n"
        "### Solution:\n2. The answer is \\boxed{2}.\n\n"
        "### Problem:\nName {it}.\nPlease reason step by step, and put your final answer within \\boxed{}.\n\n### Solution:\n"
    )


def test_programs_are_greedy_and_asked_for_as_their_reader_says() -> None:
    found = _settings("humaneval")
    assert (found.generation.temperature, found.template, found.shots) == (0.0, "code", 0)
    assert plain_prompt(ROW, "code") == ROW.instruction
    assert metrics("mbpp") == ("pass_at_1",)
    assert metrics("mbpp_plus") == ("pass_at_1", "pass_at_1_plus")


def test_a_chat_model_gets_instructions_as_they_are_and_other_tasks_as_one_turn() -> None:
    assert asked(ROW, "paper") is asked(ROW, "minillm") is ROW
    turn = asked(ROW, "maths")
    assert (turn.instruction, turn.input) == (plain_prompt(ROW, "maths"), "")


def test_the_hash_tells_all_that_decides_and_not_the_batch_size() -> None:
    base = _settings("gsm8k").sha256("rows")
    assert _settings("gsm8k", batch_size=4).sha256("rows") == base
    others = [
        _settings("gsm8k").sha256("others"),
        _settings("gsm8k", shots=4).sha256("rows"),
        _settings("gsm8k", max_new_tokens=9).sha256("rows"),
        _settings("gsm8k", chat=True).sha256("rows"),
        _settings("dolly").sha256("rows"),
        _settings("dolly", settings="minillm").sha256("rows"),
    ]
    assert len({base, *others}) == len(others) + 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"task": "gsm8k", "seeds": [1]}, "seeds: gsm8k is answered greedily"),
        ({"task": "humaneval", "settings": "paper"}, "settings: humaneval is answered greedily"),
        ({"task": "dolly", "shots": 2}, "shots: dolly has no worked examples"),
        ({"task": "dolly", "seeds": [1, 2, 1]}, "seeds: 1 is named twice"),
        ({"task": "dolly", "seeds": []}, "at least 1 item"),
        ({"task": "dolly", "data": None}, "exactly one of data and hub"),
        ({"task": "dolly", "hub": "a/b"}, "exactly one of data and hub"),
        ({"task": "dolly", "subset": "main"}, "subset: it goes with hub"),
        ({"task": "dolly", "data": None, "hub": "a/b", "subset": "../x"}, "not a folder of the repository"),
        ({"task": "dolly", "data": None, "hub": "../b"}, "not a hub id"),
        ({"task": "dolly", "name": "Dolly Eval"}, "match pattern"),
        ({"task": "mmlu"}, "Input should be 'dolly'"),
        ({"task": "dolly", "rows": 0}, "greater than or equal to 1"),
        ({"task": "dolly", "seeds": [True]}, "valid integer"),
    ],
)
def test_a_suite_that_makes_no_sense_is_refused(fields: dict[str, Any], told: str) -> None:
    given = {"data": "x"} | fields
    with pytest.raises(ValueError, match=told):
        SuiteSpec.model_validate({name: value for name, value in given.items() if value is not None})
