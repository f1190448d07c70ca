from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cpd_engine.data.problems import LETTERS, MONTHS, NAMES, ORDINALS, WEEKDAYS, WORDS
from cpd_engine.data.records import Row, read_rows
from cpd_engine.data.synthetic import synthesize, write_splits
from cpd_engine.data.tasks import TASKS

Rows = dict[str, list[dict[str, str]]]
METRES = {"kilometres": 1000.0, "metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}
GRAMS = {"kilograms": 1000.0, "grams": 1.0}
LITRES = {"litres": 1.0, "millilitres": 0.001}
CENTS = {"euros": 100.0, "cents": 1.0}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return synthesize(4800, 0)


# The answer worked out again from nothing but the text of the row, by other means than the generator's.


def _text(row: dict[str, str]) -> str:
    return f"{row['instruction']}\n{row['input']}"


def _numbers(row: dict[str, str]) -> list[int]:
    return [int(found) for found in re.findall(r"\d+", _text(row))]


def _listed(row: dict[str, str]) -> list[str]:
    """The items after the last colon."""
    return re.split(r", | ", _text(row).rpartition(":")[2].strip().rstrip("."))


def _table(row: dict[str, str]) -> dict[str, str]:
    return dict(re.findall(r"(\w+): (\w+)", row["input"]))


def _single_letters(row: dict[str, str]) -> list[str]:
    return re.findall(r"\b[a-z]\b", row["instruction"].partition(":")[0])


def _position(row: dict[str, str]) -> str:
    ordinal = next(i for i, word in enumerate(("first", "second", "third", "fourth")) if word in row["instruction"])
    return _listed(row)[ordinal]


def _lookup(row: dict[str, str]) -> str:
    return next(value for name, value in _table(row).items() if name in row["instruction"])


def _search(row: dict[str, str]) -> str:
    return next(name for name, value in _table(row).items() if value in row["instruction"])


def _replacement(row: dict[str, str]) -> str:
    old, new = _single_letters(row)
    return " ".join(_listed(row)).replace(old, new)


def _weekday(row: dict[str, str]) -> str:
    day = datetime(2024, 1, 1, tzinfo=UTC)
    while day.strftime("%A") not in _text(row):
        day += timedelta(days=1)
    return (day + timedelta(days=_numbers(row)[0])).strftime("%A")


def _parsed(text: str, form: str) -> datetime:
    return datetime.strptime(text, form).replace(tzinfo=UTC)


def _written_date(row: dict[str, str]) -> str:
    return _parsed(re.findall(r"\d{4}-\d\d-\d\d", _text(row))[0], "%Y-%m-%d").strftime("%d %B %Y").lstrip("0")


def _date_addition(row: dict[str, str]) -> str:
    days = re.findall(r"(\d+) days", _text(row))[0]
    written = re.findall(r"\d+ [A-Z][a-z]+", _text(row))[0]
    return (_parsed(f"{written} 2001", "%d %B %Y") + timedelta(days=int(days))).strftime("%d %B").lstrip("0")


def _units(row: dict[str, str]) -> str:
    amount, large = re.findall(r"(\d+) (\w+)", _text(row))[0]
    scale = next(scale for scale in (METRES, GRAMS, LITRES, CENTS) if large in scale)
    small = next(unit for unit in re.findall(r"\w+", row["instruction"]) if unit in scale and unit != large)
    return f"{round(int(amount) * scale[large] / scale[small])} {small}"


AGAIN: dict[str, Callable[[dict[str, str]], str]] = {
    "addition": lambda row: str(sum(_numbers(row))),
    "subtraction": lambda row: str(_numbers(row)[0] - _numbers(row)[1]),
    "comparison": lambda row: str(max(_numbers(row))),
    "number_sorting": lambda row: ", ".join(map(str, sorted(_numbers(row)))),
    "word_sorting": lambda row: ", ".join(sorted(_listed(row))),
    "list_position": _position,
    "list_reversal": lambda row: ", ".join(reversed(_listed(row))),
    "table_lookup": _lookup,
    "table_search": _search,
    "letter_reversal": lambda row: " ".join(reversed(_listed(row))),
    "digit_reversal": lambda row: "".join(reversed(str(_numbers(row)[0]))),
    "letter_replacement": _replacement,
    "letter_count": lambda row: str(sum(letter == _single_letters(row)[0] for letter in _listed(row))),
    "weekday": _weekday,
    "written_date": _written_date,
    "date_addition": _date_addition,
    "units": _units,
}


def test_every_answer_is_right_when_worked_out_again(rows: Rows) -> None:
    wrong = [row for split in rows.values() for row in split if AGAIN[row["category"]](row) != row["output"]]

    assert wrong == []


def test_every_task_is_worked_out_again() -> None:
    assert set(AGAIN) == {task.category for task in TASKS}


def test_the_default_size_gives_four_thousand_rows_to_train_on(rows: Rows) -> None:
    assert {split: len(found) for split, found in rows.items()} == {"train": 4000, "validation": 400, "test": 400}


def test_equal_arguments_give_equal_rows_and_another_seed_others(rows: Rows) -> None:
    assert synthesize(4800, 0) == rows
    assert synthesize(4800, 1)["test"] != rows["test"]


def test_no_values_of_one_split_occur_together_in_another(rows: Rows) -> None:
    seen = {split: {_values(row) for row in found} for split, found in rows.items()}

    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def _values(row: dict[str, str]) -> tuple[str, ...]:
    """The numbers, names, listed words and single letters of a row, in whatever order they stand."""
    printed = {*WORDS, *NAMES, *LETTERS, *MONTHS, *WEEKDAYS, *METRES, *GRAMS, *LITRES, *CENTS}
    if row["category"] == "list_position":
        printed |= {*ORDINALS}
    return (
        row["category"],
        *sorted(word for word in re.findall(r"\w+", _text(row)) if word in printed or word.isdigit()),
    )


def test_splits_stay_disjoint_across_sizes_of_one_seed(rows: Rows) -> None:
    larger = synthesize(9600, 0)

    train = {(row["instruction"], row["input"]) for row in larger["train"]}
    assert not train & {(row["instruction"], row["input"]) for row in rows["test"]}


def test_rows_are_distinct_and_ids_unique(rows: Rows) -> None:
    every = [row for split in rows.values() for row in split]

    assert len({row["id"] for row in every}) == len(every)
    assert len({_text(row) for row in every}) == len(every)


def test_every_task_has_its_share_in_several_phrasings(rows: Rows) -> None:
    shares = Counter(row["category"] for row in rows["train"])
    phrasings = defaultdict(set)
    for row in rows["train"]:
        values = r"\d[\d-]*|\b[a-z]\b|[A-Z][a-z]+(?=[ ?.]|$)|\b(first|second|third|fourth)\b"
        phrasings[row["category"]].add(re.sub(values, "_", row["instruction"])[:14])

    assert set(shares) == {task.category for task in TASKS}
    assert max(shares.values()) - min(shares.values()) <= 1
    assert all(len(found) >= 3 for found in phrasings.values())


def test_the_reader_takes_every_row_that_is_written(tmp_path: Path) -> None:
    paths = write_splits(tmp_path / "data", 240, 3)

    for split, count in {"train": 200, "validation": 20, "test": 20}.items():
        with paths[split].open("rb") as lines:
            read = list(read_rows(lines))
        assert len(read) == count
        assert all(isinstance(row, Row) and row.references == (row.response,) for row in read)


def test_more_rows_than_the_small_tasks_have_come_from_the_others() -> None:
    rows = synthesize(60_000, 0)["test"]

    shares = Counter(row["category"] for row in rows)
    assert len(rows) == 5000
    assert shares["weekday"] < shares["letter_reversal"]
