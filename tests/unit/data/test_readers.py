"""Every format of file and of row, and where in its file each kind of bad row is found."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpd_engine.data.jsonlines import MAX_ROW_BYTES
from cpd_engine.data.readers import lines_of
from cpd_engine.data.records import BadRow, Row, read_rows
from cpd_engine.errors import DatasetInvalid

CHAT = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]


def read(path: Path, content: bytes | str) -> list[Row | BadRow]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_rows(lines_of([path])))


def places(found: list[Row | BadRow]) -> list[tuple[int, int | None, str]]:
    return [(row.line, row.column, row.code) for row in found if isinstance(row, BadRow)]


def good(found: list[Row | BadRow]) -> list[Row]:
    return [row for row in found if isinstance(row, Row)]


def test_sharegpt_rows_are_conversations(tmp_path: Path) -> None:
    one = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    lines = "".join(json.dumps({"conversations": turns}) + "\n" for turns in (one, CHAT))
    alone, led = good(read(tmp_path / "rows.jsonl", lines))
    assert (alone.instruction, alone.response, alone.turns) == ("Hi", "Ho", ())
    assert [(turn.role, turn.content) for turn in led.turns] == [("system", "Be brief."), ("user", "Hi")]
    assert led.response == "Ho"


@pytest.mark.parametrize(
    ("turns", "code", "column", "remedy"),
    [
        ("Hi", "wrong_type", 2, '"human" | "gpt"'),
        ([{"from": "robot", "value": "a"}], "invalid_message", 2, '"human" | "gpt"'),
        ([{"from": ["gpt"], "value": "a"}], "invalid_message", 2, '"human" | "gpt"'),
        ([{"from": "human", "value": "a"}], "missing_field", 2, "End the conversation"),
        ([{"from": "gpt", "value": "a"}], "empty_prompt", 2, "Add a user turn"),
        ([{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}], "empty_response", 69, "Write the answer"),
    ],
)
def test_a_bad_sharegpt_row_is_told_with_its_place(
    tmp_path: Path, turns: object, code: str, column: int, remedy: str
) -> None:
    (bad,) = read(tmp_path / "rows.jsonl", json.dumps({"conversations": turns}))
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.column, bad.code) == (1, column, code)
    assert remedy in bad.suggestion


@pytest.mark.parametrize(
    ("row", "suggestion"),
    [
        ({"prompt": "a", "response": "b"}, "Rename the field response to completion."),
        ({"instruction": "a", "completion": "b"}, "Rename the field completion to output."),
        ({"question": "a", "reply": "b"}, "Rename the field reply to answer."),
        ({"prompt": "a"}, "Add the field completion."),
        ({"query": "a", "target": "b"}, "Rename the field query to prompt and target to completion;"),
        ({"sentence": "a"}, "Use instruction/input/output,"),
    ],
)
def test_the_suggestion_names_the_field_that_looks_like_the_missing_one(
    tmp_path: Path, row: dict[str, str], suggestion: str
) -> None:
    (bad,) = read(tmp_path / "rows.jsonl", json.dumps(row))
    assert isinstance(bad, BadRow)
    assert bad.suggestion.startswith(suggestion)


def test_csv_rows_are_read_with_line_breaks_and_quotes_in_their_cells(tmp_path: Path) -> None:
    text = '\ufeffid,instruction,input,output\r\n7,"Say ""hi"",\nplease",,"a\r\nb"\r\n,Add.,1 2,3\r\n'
    first, second = good(read(tmp_path / "rows.csv", text))
    assert first == Row("7", 'Say "hi",\nplease', "", "a\r\nb", ("a\r\nb",))
    assert second == Row("row-2", "Add.", "1 2", "3", ("3",))


@pytest.mark.parametrize(("name", "delimiter"), [("rows.csv", ";"), ("rows.tsv", "\t"), ("rows.csv", ",")])
def test_the_delimiter_is_the_one_of_the_first_line(tmp_path: Path, name: str, delimiter: str) -> None:
    (row,) = good(read(tmp_path / name, f"prompt{delimiter}completion\na{delimiter}b\n"))
    assert (row.instruction, row.response) == ("a", "b")


def test_a_cell_of_a_conversation_holds_json(tmp_path: Path) -> None:
    cell = json.dumps(CHAT).replace('"', '""')
    (row, bad) = read(tmp_path / "rows.csv", f'topic,conversations\nx,"{cell}"\ny,[broken\n')
    assert isinstance(row, Row)
    assert row.response == "Ho"
    assert places([bad]) == [(3, 2, "invalid_json")]


def test_each_bad_record_of_a_csv_file_is_told_by_its_line_and_table_column(tmp_path: Path) -> None:
    lines = [
        b"prompt,completion",
        b'"two\nlines",b',  # lines 2 and 3
        b"a,",
        b"a,b,c",
        b",b",
        b'a,"b"c',
        b"\xff,b",
        b"a,\0",
        b"",
        b"a,b",
        b'a,"never closed',
    ]
    found = read(tmp_path / "rows.csv", b"\n".join(lines))
    assert places(found) == [
        (4, 2, "empty_response"),
        (5, None, "wrong_cell_count"),
        (6, 1, "empty_prompt"),
        (7, None, "invalid_csv"),
        (8, None, "not_utf8"),
        (9, None, "nul_character"),
        (12, None, "invalid_csv"),
    ]
    assert [row.instruction for row in good(found)] == ["two\nlines", "a"]
    remedies = {row.code: row.suggestion for row in found if isinstance(row, BadRow)}
    assert "Save the file as UTF-8" in remedies["not_utf8"]
    assert "in quotes" in remedies["wrong_cell_count"]


def test_a_csv_file_without_known_columns_has_no_usable_row(tmp_path: Path) -> None:
    found = read(tmp_path / "rows.csv", "query,reply\na,b\n")
    assert places(found) == [(2, None, "unknown_format")]
    assert places(read(tmp_path / "rows.csv", "prompt,prompt\na,b\n")) == [(1, None, "duplicate_key")]
    assert read(tmp_path / "rows.csv", "") == []


def test_a_quote_left_open_ends_at_the_limit_of_a_row(tmp_path: Path) -> None:
    filler = "x" * 1000 + "\n"
    text = 'prompt,completion\na,"open\n' + filler * (MAX_ROW_BYTES // len(filler) + 2) + "a,b\n"
    found = read(tmp_path / "rows.csv", text)
    assert places(found)[0] == (2, None, "too_large")
    assert [row.instruction for row in good(found)] == ["a"]


def test_rows_of_a_json_array_keep_their_place_in_the_file(tmp_path: Path) -> None:
    text = '[\n  {"prompt": "a",\n   "completion": "b"},\n  {"prompt": "a",\n   "completion": ""}, 5,\n {"instruction": 1}]\n'
    found = read(tmp_path / "rows.json", text)
    assert [row.id for row in good(found)] == ["row-1"]
    assert places(found) == [(5, 4, "empty_response"), (5, 23, "not_an_object"), (6, 3, "wrong_type")]


def test_an_alpaca_file_is_an_array_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}", "input": "ü" * 300, "output": str(n), "text": "whole"} for n in range(2000)]
    found = read(tmp_path / "alpaca.json", json.dumps(rows, indent=1, ensure_ascii=False))
    assert [row.response for row in good(found)] == [str(n) for n in range(2000)]
    assert read(tmp_path / "empty.json", " [ ] ") == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"prompt": "a", "completion": "b"}\n {"prompt": "a"}]', "line 2, column 2: , or ] is missing"),
        ('[{"prompt": "a", "completion": "b"},\n', "line 2, column 1"),
        ('[{"prompt": "a", "completion": }]', "line 1, column 2"),
        ("[1] 2", "line 1, column 5: text after its end"),
        ("[" * 100_000, ""),
    ],
)
def test_a_broken_array_is_refused_with_its_place(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(DatasetInvalid, match="not a JSON array of rows") as caught:
        read(tmp_path / "rows.json", text)
    assert where in str(caught.value)


def test_a_bad_row_of_a_parquet_file_is_told_by_its_number_and_table_column(tmp_path: Path) -> None:
    rows = [{"n": 1, "prompt": "a", "completion": "b"}, {"n": 2, "prompt": "a", "completion": " "}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = list(read_rows(lines_of([tmp_path / "rows.parquet"])))
    assert places(found) == [(2, 3, "empty_response")]


def test_packed_lines_are_read(tmp_path: Path) -> None:
    (row,) = good(read(tmp_path / "rows.jsonl.gz", gzip.compress(b'{"prompt": "a", "completion": "b"}')))
    assert row.response == "b"
