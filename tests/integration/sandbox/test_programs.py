"""A suite of programs from its rows to its scores, in the real sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cpd_engine import checkpoint
from cpd_engine.config import ExaminationConfig, TinyModel
from cpd_engine.evaluation.code import read_problems
from cpd_engine.evaluation.grading import grade
from cpd_engine.evaluation.programs import Programs
from cpd_engine.evaluation.sandbox import Sandbox
from cpd_engine.events import Event, to_dict
from cpd_engine.examination import examine
from cpd_engine.inputs import Inputs
from cpd_engine.models.tiny import build_tiny
from tests.unit.evaluation.test_code_problems import HUMAN_EVAL, RELEASED_MBPP_PLUS


def _graded(task: str, rows: list[dict[str, Any]], texts: list[str]) -> list[tuple[dict[str, float], str | None]]:
    programs = Programs(task, rows)
    found = grade(
        task,
        programs.rows(chat=False),
        texts,
        programs=programs,
        on_progress=lambda _done, _of: None,
        should_stop=lambda: False,
    )
    return [(one.scores, one.parsed) for one in found]


def test_programs_get_the_scores_of_their_task_and_a_reason_where_they_fail(sandbox: Sandbox) -> None:
    (problem,) = read_problems([HUMAN_EVAL], "humaneval")
    right = f"```python\n{problem.solution}\n```"
    (passed,), (failed,) = (_graded("humaneval", [HUMAN_EVAL], [text]) for text in (right, "I cannot."))
    assert passed == ({"pass_at_1": 1.0}, None)
    assert failed == ({"pass_at_1": 0.0}, "SyntaxError")
    (plus,) = read_problems([RELEASED_MBPP_PLUS], "mbpp_plus")
    (both,) = _graded("mbpp_plus", [RELEASED_MBPP_PLUS], [f"```python\n{plus.solution}\n```"])
    assert both == ({"pass_at_1": 1.0, "pass_at_1_plus": 1.0}, None)


def test_a_plain_model_is_shown_figure_8_whole_and_a_chat_model_its_request(sandbox: Sandbox) -> None:
    (problem,) = read_problems([HUMAN_EVAL], "humaneval")
    programs = Programs("humaneval", [HUMAN_EVAL])
    assert programs.rows(chat=False)[0].instruction == problem.paper_prompt
    assert programs.rows(chat=True)[0].instruction == problem.prompt
    assert programs.rows(chat=False)[0].id == problem.id


@pytest.mark.parametrize("template", ["paper", "chat"])
def test_a_model_is_scored_on_programs_and_every_one_of_them_is_kept(
    sandbox: Sandbox, tmp_path: Path, template: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(HUMAN_EVAL) + "\n")
    ref = TinyModel(tiny="gpt2", layers=1, hidden=16, heads=2, vocabulary=300)
    build_tiny(ref, ["def add(a, b): return a + b"] * 9, tmp_path / "model", max_positions=1024)
    suite = {"task": "humaneval", "data": str(rows), "max_new_tokens": 8}
    config = ExaminationConfig.model_validate({"suites": [suite], "template": template, "threads": 1})
    events: list[Event] = []
    examine(
        config,
        model=tmp_path / "model",
        inputs=Inputs(code_execution=True),
        out=tmp_path / "out",
        emit=events.append,
        should_stop=lambda: False,
    )
    (line,) = checkpoint.read_jsonl(tmp_path / "out" / "suites" / "model" / "humaneval" / "greedy" / "answers.jsonl")
    assert (line["row"], line["scores"]) == (HUMAN_EVAL["task_id"], {"pass_at_1": 0.0})
    assert line["parsed"]
    (sample,) = checkpoint.read_jsonl(tmp_path / "out" / "report" / "suites" / "humaneval.jsonl")
    assert ("### Response:" in sample["prompt"]) == (template == "paper")
    told = [to_dict(event) for event in events if event.kind == "examined"]
    assert told[0]["suites"][0]["scores"]["model"]["pass_at_1"]["mean"] == 0.0
