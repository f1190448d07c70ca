"""Files of rows that nobody should send: every one is taken with its bad rows told by their lines, or refused, and nothing is a 500."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpd_engine.data.records import MAX_ROW_BYTES
from tests.backends import Backend
from tests.integration.checkpoints.small_disk import small_disk
from tests.integration.http.api import Api, serving

GOOD = b'{"prompt": "a", "completion": "b"}'
# One kind a line, between good ones.
KINDS = {
    "invalid_json": b'{"prompt": "a", "completion": }',
    "not_utf8": b'{"prompt": "\xff", "completion": "b"}',
    "nul_character": b'{"prompt": "a\x00", "completion": "b"}',
    "lone_surrogate": b'{"prompt": "a", "completion": "\\ud800"}',
    "non_finite_number": b'{"prompt": "a", "completion": "b", "weight": 1e400, "other": NaN}',
    "duplicate_key": b'{"prompt": "a", "completion": "b", "completion": "c"}',
    "not_an_object": b'["a", "b"]',
    "unknown_format": b'{"query": "a", "reply": "b"}',
    "missing_field": b'{"prompt": "a"}',
    "wrong_type": b'{"prompt": "a", "completion": 5}',
    "empty_response": b'{"prompt": "a", "completion": " "}',
    "too_large": b'{"prompt": "' + b"a" * MAX_ROW_BYTES + b'", "completion": "b"}',
}


@pytest.fixture
def roomy(short: Backend) -> Iterator[Api]:
    """The API with room for a row that is too large."""
    with serving(short.with_settings(upload_max_bytes=4 * MAX_ROW_BYTES)) as api:
        yield api


def send(api: Api, content: bytes, media: str, allowed: float) -> tuple[int, dict[str, object]]:
    query = {"name": "rows", "max_bad_row_fraction": str(allowed)}
    answer = api.owner.post("/v1/datasets", params=query, content=content, headers={"content-type": media})
    assert len(answer.content) <= 4096 or answer.status_code == 201
    return answer.status_code, answer.json()


def test_every_kind_of_bad_row_is_told_by_its_line_whether_taken_or_refused(roomy: Api) -> None:
    lines = [line for bad in KINDS.values() for line in (GOOD, bad)]
    expected = [(2 * number, code) for number, code in enumerate(KINDS, 1)]
    _, taken = send(roomy, b"\n".join(lines), "application/jsonl", 0.5)
    status, refused = send(roomy, b"\n".join(lines), "application/jsonl", 0.1)
    report, error = taken["report"], refused["error"]
    assert isinstance(report, dict)
    assert isinstance(error, dict)

    assert (taken["rows"], taken["bad_rows"]) == (len(expected), len(expected))
    assert [(row["line"], row["reason"].partition(":")[0]) for row in report["bad_rows"]] == expected
    assert (status, error["code"]) == (422, "invalid_dataset")
    assert [f"line {line}: {code}" in error["message"] for line, code in expected] == [True] * len(expected)
    assert "aaaa" not in json.dumps([taken, refused])


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"\xef\xbb\xbf" + GOOD, 201),
        (GOOD + b"\r\n" + GOOD, 201),
        (GOOD + b"\r" + GOOD, 422),
        (b"\n\n\n" + GOOD + b"\n\n", 201),
        (GOOD.decode().encode("utf-16"), 422),
        (GOOD.decode().encode("utf-32-le"), 422),
        (b"\x1f\x8b\x08\x00" + GOOD, 422),
        (b"PK\x03\x04" + bytes(500), 422),
        (bytes(150_000), 422),
        (b"\n" * 150_000, 422),
        (b"[" * 150_000, 422),
        (b'{"a":' * 30_000, 422),
        (b'{"prompt": "a", "completion": ' + b"9" * 100_000 + b"}", 422),
        (b'{"prompt": "' + b"\\u0000" * 10_000 + b'", "completion": "b"}', 422),
        (GOOD * 1000, 422),
        ("{“prompt”: “a”}".encode(), 422),
        (b'{"prompt": "a", "completion": "b"}\xe2\x80\xa8' + GOOD, 422),
        (b'{"messages": ' + b'[{"role": "user", "content": "a"},' * 2000, 422),
        (b'{"messages": [' + b'{"role": "user", "content": "a"},' * 2000 + b'{"role": "assistant", "content": "b"}]}', 201),
    ],
    ids=range(19),
)  # fmt: skip
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_odd_files_of_json_lines_are_taken_or_refused(api: Api, content: bytes, status: int) -> None:
    answered, said = send(api, content, "application/jsonl", 0.0)

    assert answered == status, said


@pytest.mark.parametrize(
    ("content", "media"),
    [
        (b"[" * 150_000, "application/json"),
        (b'[{"prompt": "a", "completion": "b"}', "application/json"),
        (b'[{"prompt": "a", "completion": "b"},]', "application/json"),
        (b"\xff\xfe[\x00", "application/json"),
        (b"[" + b"1," * 70_000 + b"1]", "application/json"),
        (b'prompt,completion\n"' + b"a" * 150_000, "text/csv"),
        (b"prompt,completion\n\x00,b\n", "text/csv"),
        (b"prompt,prompt\na,b\n", "text/csv"),
        (b"\xff\xfep\x00", "text/csv"),
        (b",".join(b"c%d" % n for n in range(30_000)) + b"\na\n", "text/csv"),
        (b'"' * 150_001, "text/csv"),
        (b"prompt\tcompletion\ra\tb", "text/csv"),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_odd_arrays_and_tables_are_refused(api: Api, content: bytes, media: str) -> None:
    status, said = send(api, content, media, 0.0)

    assert status == 422, said


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_no_file_whatever_breaks_the_service(api: Api) -> None:
    """300 files, each a good one with some of it cut out, doubled or overwritten, by a seed."""
    chance = random.Random(31)
    wholes = {
        "application/jsonl": b"\n".join([GOOD, b'{"messages": [{"role": "user", "content": "a"}]}', GOOD] * 5),
        "application/json": b"[" + b",\n".join([GOOD] * 15) + b"]",
        "text/csv": b"prompt,completion\n" + b'"a, ""b""\nc",d\n' * 15,
    }
    seen = set()
    for _ in range(100):
        for media, whole in wholes.items():
            content = mutated(whole, chance)
            status, said = send(api, content, media, chance.choice((0.0, 0.5, 1.0)))
            seen.add(status)
            assert status in (201, 422), (content, said)

    assert seen == {201, 422}
    kept = [path for path in api.backend.settings.store_dir.rglob("*") if path.is_file()]
    assert len(kept) == sum(1 for _ in every_dataset(api))
    assert not list((api.backend.settings.scratch_dir / "uploads").glob("*"))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_an_upload_for_which_there_is_no_room_says_so_and_leaves_nothing(short: Backend, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 500_000) as disk, serving(short.with_settings(scratch_dir=disk.path)) as api:
        disk.fill(but=50_000)
        status, said = send(api, b"\n".join([GOOD] * 5000), "application/jsonl", 0.0)
        error = said["error"]
        assert isinstance(error, dict)

        assert (status, error["code"], error["param"]) == (507, "insufficient_storage", None)
        assert [path.name for path in disk.path.rglob("*") if path.is_file() and path.suffix == ".jsonl"] == []
        assert api.owner.get("/v1/datasets").json()["data"] == []


def mutated(whole: bytes, chance: random.Random) -> bytes:
    made = bytearray(whole)
    for _ in range(chance.randint(1, 3)):
        at, length = chance.randrange(len(made)), chance.randint(1, 20)
        match chance.choice(("cut", "double", "noise", "special")):
            case "cut":
                del made[at : at + length]
            case "double":
                made[at:at] = made[at : at + length]
            case "noise":
                made[at : at + length] = chance.randbytes(length)
            case _:
                made[at:at] = chance.choice(
                    (b"\x00", b"\r", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b"{", b"\\ud800", b"\n")
                )
        made = made or bytearray(b"\n")
    return bytes(made)


def every_dataset(api: Api) -> Iterator[str]:
    cursor: dict[str, str] = {}
    while True:
        page = api.owner.get("/v1/datasets", params={"limit": "100"} | cursor).json()
        yield from (row["id"] for row in page["data"])
        if not page["has_more"]:
            return
        cursor = {"cursor": page["next_cursor"]}
