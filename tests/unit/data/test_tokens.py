"""Rows as the models will see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpd_engine.data.encode import PAPER_TEMPLATE, encode
from cpd_engine.data.readers import lines_of
from cpd_engine.data.records import Row, read_rows
from cpd_engine.data.tokens import check_tokens
from cpd_engine.errors import DatasetInvalid, UnsupportedModel
from cpd_engine.models.load import load_tokenizer
from cpd_engine.models.tiny import train_tokenizer
from tests.shared_data import shared_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer made on the spot."""
    made = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([PAPER_TEMPLATE, "say word and more words"] * 20, 300).save_pretrained(made)
    return made


def rows(path: Path, *lengths: int) -> Path:
    texts = [{"prompt": f"say {n}", "completion": "word " * n} for n in lengths]
    path.write_text("".join(json.dumps(text) + "\n" for text in texts) + "nonsense\n")
    return path


def test_what_is_too_long_is_what_training_drops(tmp_path: Path, folder: Path) -> None:
    file = rows(tmp_path / "rows.jsonl", 1, 5, 50, 120)
    usable = [row for row in read_rows(lines_of([file])) if isinstance(row, Row)]
    tokenizer = load_tokenizer(folder)
    whole = encode(usable, tokenizer, template="paper", max_length=1 << 20).samples
    for limit in (sorted(len(one.input_ids) for one in whole)[2], whole[0].prompt_length + 1):
        found = check_tokens([file], teacher=folder, student=None, template="paper", max_length=limit, show=0)
        (report,) = found.reports
        dropped = encode(usable, tokenizer, template="paper", max_length=limit).dropped
        assert (report.overlong, report.overlong_prompt) == (
            dropped.get("overlong", 0),
            dropped.get("overlong_prompt", 0),
        )
        assert report.overlong + report.overlong_prompt > 0
        assert (report.rows, report.sample.total) == (4, sum(len(one.input_ids) for one in whole))
        assert sum(one.rows for one in report.response.histogram) == 4


def test_the_first_rows_are_shown_as_text_with_the_end_token(tmp_path: Path, folder: Path) -> None:
    file = rows(tmp_path / "rows.jsonl", 2, 3)
    found = check_tokens(
        [file], teacher=folder, student=folder / "tokenizer.json", template="paper", max_length=64, show=1
    )
    assert [report.model for report in found.reports] == ["teacher", "student"]
    assert found.vocabularies is None
    (shown,) = found.reports[0].shown
    assert shown.prompt == PAPER_TEMPLATE.format(instruction="say 2", input="")
    assert shown.response == "word word " + str(load_tokenizer(folder).eos_token)
    assert shown.id == "row-1"


def test_the_chat_template_is_shown_as_qwen_has_it_and_vocabularies_that_differ_are_told(tmp_path: Path) -> None:
    file = rows(tmp_path / "rows.jsonl", 1)
    qwen, gpt2 = shared_data("tokenizers", "Qwen1.5-1.8B"), shared_data("tokenizers", "gpt2")
    found = check_tokens([file], teacher=qwen, student=None, template="chat", max_length=64, show=1)
    assert found.reports[0].shown[0].prompt.endswith("<|im_start|>user\nsay 1<|im_end|>\n<|im_start|>assistant\n")
    assert found.reports[0].shown[0].response == "word <|im_end|>"
    both = check_tokens([file], teacher=qwen, student=gpt2, template="paper", max_length=64, show=0)
    assert both.vocabularies is not None
    assert "different vocabularies" in both.vocabularies


def test_what_is_not_there_is_told(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DatasetInvalid, match="no such file"):
        check_tokens([tmp_path / "absent"], teacher=folder, student=None, template="paper", max_length=64, show=0)
    with pytest.raises(UnsupportedModel, match="tokenizer"):
        check_tokens([], teacher=tmp_path, student=None, template="paper", max_length=64, show=0)
