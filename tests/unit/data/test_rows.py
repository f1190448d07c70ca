from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpd_engine.data import rows as module
from cpd_engine.data.records import Row, Turn, to_json
from cpd_engine.data.rows import Rows

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
ROWS = [
    Row("a", "Say\nthis.", "line\r\nline\u2028line", "no\n", ("no\n", "nein")),
    Row("é", "", "in", "x", ("x",)),
    Row("c", "s\n\nu", "", "y", ("y",), (Turn("system", "s"), Turn("user", "u"))),
]


def _file(path: Path, rows: list[Row]) -> Rows:
    path.write_bytes(b"".join(to_json(row).encode() + b"\n" for row in rows))
    return Rows(path)


def test_rows_come_back_one_by_one_by_number_and_from_the_end(tmp_path: Path) -> None:
    rows = _file(tmp_path / "rows.jsonl", ROWS)
    assert len(rows) == 3
    assert list(rows) == ROWS
    assert [rows[i] for i in range(-3, 3)] == ROWS * 2
    assert rows[1:] == ROWS[1:]
    with pytest.raises(IndexError):
        rows[3]


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=12))
def test_no_text_breaks_a_line(tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[str, str]]) -> None:
    told = [Row(str(n), f"?{asked}", given_, f"!{asked}", (f"!{asked}",)) for n, (asked, given_) in enumerate(texts)]
    rows = _file(tmp_path_factory.mktemp("rows") / "rows.jsonl", told)
    assert [rows[n] for n in range(len(rows))] == told


def test_a_file_of_many_blocks_has_all_its_lines(tmp_path: Path) -> None:
    long = "x" * (module._BLOCK_BYTES // 3)
    told = [Row(str(n), long[n:], "", "y", ("y",)) for n in range(10)]
    rows = _file(tmp_path / "rows.jsonl", told)
    assert [rows[n].instruction for n in (9, 0, 3)] == [long[9:], long, long[3:]]


def test_no_rows_are_no_rows(tmp_path: Path) -> None:
    rows = _file(tmp_path / "rows.jsonl", [])
    assert (len(rows), list(rows), list(rows.chunks())) == (0, [], [])


def test_chunks_hold_every_row_once_in_order_and_neither_many_rows_nor_much_text(tmp_path: Path) -> None:
    short = [Row(str(n), "?", "", "y", ("y",)) for n in range(2500)]
    long = [Row(f"l{n}", "z" * (module.CHUNK_BYTES // 3), "", "y", ("y",)) for n in range(4)]
    huge = [Row("huge", "z" * (module.CHUNK_BYTES + 1), "", "y", ("y",))]
    rows = _file(tmp_path / "rows.jsonl", [*short, *huge, *long])
    chunks = list(rows.chunks())
    assert [row for _, chunk in chunks for row in chunk] == [*short, *huge, *long]
    assert [first for first, _ in chunks] == [0, 1024, 2048, 2500, 2501, 2503]
