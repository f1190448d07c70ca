from __future__ import annotations

import copy

import pytest
from tokenizers.normalizers import Lowercase
from transformers import PreTrainedTokenizerFast

from cpd_engine.data.parity import LOOKED_AT, compare, differences
from cpd_engine.data.records import Row
from cpd_engine.events import TokenizersCompared
from cpd_engine.models.load import check_vocabularies, load_tokenizer
from cpd_engine.models.tiny import train_tokenizer
from tests.shared_data import shared_data

ROWS = [
    Row(id=f"row-{i}", instruction=f"Add {i} and 1.", input="", response=f"Sum {i}", references=(f"Sum {i}",))
    for i in range(5)
]


def tokenizer() -> PreTrainedTokenizerFast:
    made = train_tokenizer(["Add 1 and 2. Sum 3!"] * 4, 300)
    assert isinstance(made, PreTrainedTokenizerFast)
    return made


def codes(found: TokenizersCompared) -> list[str]:
    return [warned.code for warned in differences(found)]


def test_a_tokenizer_is_like_itself() -> None:
    found = compare(tokenizer(), tokenizer(), ROWS, "paper")

    assert (found.vocabulary, found.rows, found.alike, found.same_template) == (len(tokenizer()), 5, 5, None)
    assert found.teacher_end == found.student_end != ""
    assert codes(found) == []


def test_rows_that_one_of_them_splits_otherwise_are_counted_though_the_vocabulary_is_the_same() -> None:
    other = copy.deepcopy(tokenizer())
    other.backend_tokenizer.normalizer = Lowercase()
    assert check_vocabularies(tokenizer(), other) == len(other)
    found = compare(tokenizer(), other, ROWS, "paper")

    assert found.alike == 0
    assert codes(found) == ["tokenizers_differ"]
    assert "5 of 5 rows" in differences(found)[0].message


@pytest.mark.parametrize("end", ["!", None])
def test_another_end_and_none_are_told(end: str | None) -> None:
    other = copy.deepcopy(tokenizer())
    other.eos_token = end
    found = compare(tokenizer(), other, ROWS, "paper")

    assert found.student_end == (end or "")
    assert codes(found) == ["ends_differ"]


def test_two_chat_templates_that_write_otherwise_are_told_and_one_alone_is_not() -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    teacher, student = copy.deepcopy(tokenizer()), copy.deepcopy(tokenizer())
    teacher.chat_template, student.chat_template = template, template.replace(": ", " says ")
    differing = compare(teacher, student, ROWS, "chat")
    student.chat_template = None
    alone = compare(teacher, student, ROWS, "chat")

    assert (differing.same_template, codes(differing)) == (False, ["templates_differ"])
    assert (alone.same_template, codes(alone)) == (None, [])


def test_few_of_many_rows_are_looked_at() -> None:
    assert compare(tokenizer(), tokenizer(), ROWS * 100, "paper").rows == LOOKED_AT


def test_a_real_tokenizer_is_like_itself_by_its_own_template() -> None:
    qwen = load_tokenizer(shared_data("tokenizers", "Qwen1.5-1.8B"))
    found = compare(qwen, qwen, ROWS, "chat")

    assert (found.alike, found.same_template, found.teacher_end) == (5, True, "<|im_end|>")
