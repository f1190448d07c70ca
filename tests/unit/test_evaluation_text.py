from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpd_engine.evaluation.text import exact_match, rouge_l
from tests.shared_data import shared_data


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _references(row: dict[str, object]) -> list[str]:
    output = row["output"]
    return [str(text) for text in output] if isinstance(output, list) else [str(output)]


def test_published_answers_get_the_published_scores() -> None:
    answers = _rows(shared_data("rouge_reference", "answers_seed10.jsonl"))
    references = [_references(row) for row in _rows(shared_data("dolly", "test.jsonl"))]
    texts = [str(answer["text"]) for answer in answers]

    assert len(texts) == len(references) == 500
    mean_rouge = 100 * sum(map(rouge_l, texts, references)) / len(texts)
    mean_exact = 100 * sum(map(exact_match, texts, references)) / len(texts)

    assert round(mean_rouge, 4) == 24.2393
    assert mean_exact == pytest.approx(2.8)


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # "the cat sat" is common in order: precision 3/4, recall 3/5.
    assert rouge_l("the cat sat down", ["the black cat then sat"]) == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))


def test_rouge_l_compares_stems() -> None:
    assert rouge_l("running dogs", ["run dog"]) == 1.0


def test_rouge_l_takes_the_best_reference() -> None:
    assert rouge_l("a red house", ["nothing alike", "a red house"]) == 1.0


def test_an_empty_answer_scores_nothing() -> None:
    assert rouge_l("  ", ["word"]) == 0.0
    assert exact_match("", ["word"]) == 0.0


def test_exact_match_ignores_case_punctuation_and_white_space_only() -> None:
    assert exact_match(" 12  march.\n", ["12 March"]) == 1.0
    assert exact_match("12 March", ["March 12"]) == 0.0
    assert exact_match("12March", ["12 March"]) == 0.0


def test_answers_of_punctuation_alone_are_compared_as_they_are() -> None:
    assert exact_match("?", ["!"]) == 0.0
    assert exact_match("! ", ["!"]) == 1.0
    assert exact_match("", ["!"]) == 0.0


def test_exact_match_accepts_any_reference() -> None:
    assert exact_match("two", ["one", "two"]) == 1.0


def test_rouge_l_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one reference"):
        rouge_l("word", [])
