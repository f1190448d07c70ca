"""What a data set is told about itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpd_engine.data.doctor import SHOWN, Diagnosis, Examination, Found
from cpd_engine.data.lengths import Bin, Tally
from cpd_engine.data.readers import lines_of


def lines(*rows: tuple[str, str] | str) -> list[bytes]:
    return [
        row.encode() if isinstance(row, str) else json.dumps({"prompt": row[0], "completion": row[1]}).encode()
        for row in rows
    ]


def diagnosed(given: Iterable[bytes], **more: Any) -> Diagnosis:
    examination = Examination(**more)
    examination.look(given)
    return examination.diagnosis()


def test_rows_and_bad_rows_are_counted_and_the_first_bad_ones_kept() -> None:
    found = diagnosed(lines(("a", "b"), "nonsense", ("c", "d"), *["[]"] * 30))
    assert (found.rows, found.bad_rows, found.format) == (2, 31, "prompt")
    assert found.reasons == {"invalid_json": 1, "not_an_object": 30}
    assert [row.line for row in found.first_bad] == [2, *range(4, 3 + SHOWN)]
    assert found.bad_fraction == 31 / 33


def test_a_set_without_rows_counts_as_all_bad() -> None:
    found = diagnosed([])
    assert (found.bad_fraction, found.format, found.prompt.longest, found.prompt.histogram) == (1.0, "unknown", 0, ())


def test_duplicates_and_contradictions_are_told_by_their_lines() -> None:
    found = diagnosed(lines(("a", "b"), "", ("a", "b"), ("a", "c"), ("d", "b"), ("a", "c")))
    assert found.duplicates == Found(rows=2, lines=(3, 6))
    assert found.conflicting == Found(rows=1, lines=(4,))


def test_the_same_texts_in_another_format_are_a_duplicate() -> None:
    rows = [
        {"prompt": "a", "completion": "b"},
        {"instruction": "a", "output": "b"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    ]
    assert diagnosed(json.dumps(row).encode() for row in rows).duplicates.lines == (2, 3)


def test_prompts_of_another_set_are_leaks_whatever_the_answer() -> None:
    train = Examination()
    train.look(lines(("a", "b"), ("c", "d")))
    found = diagnosed(lines(("x", "y"), ("a", "other"), ("a", "b")), elsewhere={"train.jsonl": train.prompts})
    assert found.leaked == {"train.jsonl": Found(rows=2, lines=(2, 3))}


def test_beyond_the_limit_rows_are_read_but_not_compared() -> None:
    examination = Examination(compared=2)
    examination.look(lines(("a", "b"), ("c", "d"), ("a", "b")))
    found = examination.diagnosis()
    assert (found.rows, found.compared, found.duplicates.rows, len(examination.prompts)) == (3, 2, 0, 2)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('prompt,completion\n"a\nb",c\n"a\nb",c\n')
    assert diagnosed(lines_of([tmp_path / "rows.csv"])).duplicates.lines == (4,)


def test_lengths_are_told_in_characters_with_a_histogram() -> None:
    found = diagnosed(lines(*(("p" * n, "r") for n in range(1, 101))))
    assert (found.prompt.total, found.prompt.median, found.prompt.p95, found.prompt.longest) == (5050, 50, 95, 100)
    assert found.prompt.mean == 50.5
    bins = (Bin(upto=16, rows=16), Bin(upto=32, rows=16), Bin(upto=64, rows=32), Bin(upto=128, rows=36))
    assert found.prompt.histogram == bins
    assert found.response.histogram == (Bin(upto=16, rows=100),)


def test_a_histogram_has_its_empty_bins() -> None:
    tally = Tally()
    for length in (0, 64):
        tally.add(length)
    assert tally.lengths().histogram == (Bin(upto=16, rows=1), Bin(upto=32, rows=0), Bin(upto=64, rows=1))
