"""Uploads over HTTP."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from typing import Any

from tests.backends import STORES, Backend
from tests.deadline import eventually
from tests.integration.http.api import JSONL, ROWS, SPEC, Api, serving


def left_behind(backend: Backend) -> list[str]:
    """Files of uploads that lie on the disk, and of data sets in the store."""
    settings = backend.settings
    coming = (path for path in (settings.scratch_dir / "uploads").rglob("*") if path.is_file())
    return sorted([*(str(path.relative_to(settings.data_dir)) for path in coming), *backend.stored("datasets/")])


def upload(
    api: Api, content: Any, *, name: str = "rows.jsonl", query: dict[str, Any] | None = None, **more: str
) -> Any:
    headers = JSONL | {key.replace("_", "-"): value for key, value in more.items()}
    return api.owner.post("/v1/datasets", params={"name": name} | (query or {}), content=content, headers=headers)


@STORES
def test_an_upload_is_known_by_its_hash_and_comes_back_byte_by_byte(api: Api) -> None:
    answer = upload(api, ROWS, x_checksum_sha256=hashlib.sha256(ROWS).hexdigest().upper())
    dataset = answer.json()
    content = api.reader.get(f"{answer.headers['location']}/content")

    assert answer.status_code == 201
    assert dataset == api.reader.get(answer.headers["location"]).json()
    facts = {name: dataset[name] for name in ("name", "format", "rows", "bad_rows", "size_bytes", "sha256")}
    assert facts == {
        "name": "rows.jsonl",
        "format": "instruction",
        "rows": 200,
        "bad_rows": 0,
        "size_bytes": len(ROWS),
        "sha256": hashlib.sha256(ROWS).hexdigest(),
    }
    assert dataset["report"]["characters"]["response"] == sum(len(str(i + 1)) for i in range(200))
    assert (content.content, content.headers["etag"]) == (ROWS, f'"{dataset["sha256"]}"')


def test_an_upload_in_pieces_of_any_length_is_the_same_upload(api: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (ROWS[at : at + 777] for at in range(0, len(ROWS), 777))

    assert upload(api, pieces()).json()["sha256"] == hashlib.sha256(ROWS).hexdigest()


def test_each_format_is_told_from_the_others(api: Api) -> None:
    rows = {
        "instruction": b'{"instruction": "a", "input": "b", "output": ["c", "d"]}',
        "prompt": b'\xef\xbb\xbf{"prompt": "a", "completion": "b"}\r\n',
        "messages": b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
    }

    assert {name: upload(api, row).json()["format"] for name, row in rows.items()} == {name: name for name in rows}


def test_bad_rows_within_the_allowance_are_reported_line_by_line(api: Api) -> None:
    bad = [b"{", b"[]", b'{"instruction": "a"}', b'{"instruction": "a", "output": "\\ud800"}', b"\xff"]
    dataset = upload(api, ROWS + b"\n".join(bad), query={"max_bad_row_fraction": 0.05}).json()
    report = dataset["report"]

    assert (dataset["rows"], dataset["bad_rows"], report["truncated"]) == (200, 5, False)
    assert [row["line"] for row in report["bad_rows"]] == [201, 202, 203, 204, 205]
    codes = [row["reason"].partition(":")[0] for row in report["bad_rows"]]
    assert codes == ["invalid_json", "not_an_object", "missing_field", "lone_surrogate", "not_utf8"]
    assert all(row["suggestion"] for row in report["bad_rows"])


def test_the_report_tells_lengths_duplicates_and_contradictions(api: Api) -> None:
    rows = [b'{"prompt": "a", "completion": "%s"}' % answer for answer in (b"b", b"b", b"c")]
    dataset = upload(api, b"\n".join([*rows, b'{"prompt": "long prompt", "completion": "d"}'])).json()
    report = api.reader.get(f"/v1/datasets/{dataset['id']}").json()["report"]

    assert report["duplicates"] == {"rows": 1, "lines": [2]}
    assert report["conflicting"] == {"rows": 1, "lines": [3]}
    assert report["compared"] == 4
    assert report["lengths"]["prompt"]["longest"] == 11
    assert report["lengths"]["prompt"]["histogram"] == [{"upto": 16, "rows": 4}]
    assert report["characters"] == {"prompt": 14, "response": 4}


def test_csv_and_json_arrays_are_taken_reported_by_their_lines_and_given_back(api: Api) -> None:
    table = b'prompt,completion\n"a\nb",c\nd,\n'
    array = b'[{"conversations": [{"from": "human", "value": "a"},\n{"from": "gpt", "value": "b"}]},\n{"prompt": "a"}]'
    for content, media, kind, bad in (
        (table, "text/csv", "prompt", (4, 2, "empty_response")),
        (array, "application/json", "sharegpt", (3, None, "missing_field")),
    ):
        answer = upload(api, content, query={"max_bad_row_fraction": 0.5}, content_type=media)
        dataset = answer.json()
        (row,) = dataset["report"]["bad_rows"]
        given = api.reader.get(f"{answer.headers['location']}/content")

        assert (dataset["format"], dataset["rows"]) == (kind, 1)
        assert (row["line"], row["column"], row["reason"].partition(":")[0]) == bad
        assert (given.content, given.headers["content-type"].partition(";")[0]) == (content, media)
    assert [name.rpartition(".")[2] for name in left_behind(api.backend)].count("csv") == 1


def test_a_broken_json_array_is_refused_with_its_place(api: Api) -> None:
    answer = upload(api, b'[{"prompt": "a", "completion": "b"}\n', content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_dataset")
    assert "the upload: not a JSON array of rows (line 2, column 1" in answer.json()["error"]["message"]
    assert left_behind(api.backend) == []


def test_too_many_bad_rows_are_refused_with_their_lines_and_without_their_text(api: Api) -> None:
    answer = upload(api, ROWS + b"s3cret\n" * 30)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (422, "invalid_dataset")
    assert "30 of 230" in error["message"]
    assert "line 201: invalid_json" in error["message"]
    assert "line 220:" in error["message"]
    assert "line 221:" not in error["message"]
    assert "s3cret" not in answer.text
    assert len(answer.content) <= 4096
    assert left_behind(api.backend) == []


@STORES
def test_bytes_that_are_not_the_announced_ones_are_refused_and_leave_nothing(api: Api) -> None:
    answer = upload(api, ROWS, x_checksum_sha256="0" * 64)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "checksum_mismatch")
    assert left_behind(api.backend) == []


def test_an_upload_beyond_the_limit_leaves_nothing_whether_announced_or_not(api: Api) -> None:
    row = b'{"prompt": "a", "completion": "b"}\n'
    announced = upload(api, row * 6000)
    unannounced = upload(api, (row * 100 for _ in range(60)))

    assert [a.json()["error"]["code"] for a in (announced, unannounced)] == ["upload_too_large"] * 2
    assert left_behind(api.backend) == []


@STORES
def test_an_upload_that_breaks_off_leaves_nothing(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    head = f"POST /v1/datasets?name=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.keys['owner']}\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}Content-Type: application/jsonl\r\nContent-Length: {len(ROWS)}\r\n\r\n".encode())
        connection.sendall(ROWS[:1000])
        eventually(lambda: len(left_behind(api.backend)) == 1, within_s=20, what="the beginning of the upload")

    eventually(lambda: left_behind(api.backend) == [], within_s=20, what="the removal of the broken upload")
    assert api.owner.get("/v1/datasets").json()["data"] == []


def test_a_tenant_s_data_sets_weigh_so_much_and_no_more(short: Backend) -> None:
    with serving(short.with_settings(stored_max_bytes=len(ROWS) * 2)) as api:
        first = upload(api, ROWS).json()["id"]
        upload(api, ROWS)
        refused = upload(api, ROWS)
        api.owner.delete(f"/v1/datasets/{first}")

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
        assert upload(api, ROWS).status_code == 201
        assert len(left_behind(api.backend)) == 2


@STORES
def test_a_data_set_that_a_live_job_needs_stays_until_the_job_is_over(api: Api) -> None:
    dataset = api.upload()
    job = api.submit(dataset={"train": dataset})
    kept = api.owner.delete(f"/v1/datasets/{dataset}")
    api.owner.post(f"/v1/jobs/{job}/cancel")
    gone = api.owner.delete(f"/v1/datasets/{dataset}")

    assert (kept.status_code, kept.json()["error"]["code"]) == (409, "dataset_in_use")
    assert (gone.status_code, gone.content) == (204, b"")
    assert api.owner.get(f"/v1/datasets/{dataset}").status_code == 404
    assert api.owner.delete(f"/v1/datasets/{dataset}").status_code == 404
    assert api.owner.post("/v1/jobs", json=SPEC | {"dataset": {"train": dataset}}).status_code == 422
    assert left_behind(api.backend) == []


def test_pages_meet_every_data_set_once_newest_first(api: Api) -> None:
    ids = [api.upload() for _ in range(3)]
    first = api.reader.get("/v1/datasets", params={"limit": 2}).json()
    rest = api.reader.get("/v1/datasets", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [entry["id"] for entry in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_data_sets_are_found_by_the_sha256_of_their_bytes(api: Api) -> None:
    first, second = api.upload(), api.upload(ROWS + ROWS.replace(b"Add", b"Sum"))
    sha256 = api.owner.get(f"/v1/datasets/{first}").json()["sha256"]
    for asked in (sha256, sha256.upper()):
        found = api.owner.get("/v1/datasets", params={"sha256": asked}).json()
        assert ([one["id"] for one in found["data"]], found["has_more"]) == ([first], False)
    assert api.owner.delete(f"/v1/datasets/{first}").status_code == 204
    assert api.owner.get("/v1/datasets", params={"sha256": sha256}).json()["data"] == []
    assert api.other.get("/v1/datasets", params={"sha256": sha256}).json()["data"] == []
    assert len(api.owner.get("/v1/datasets").json()["data"]) == len([second])
    bad = api.owner.get("/v1/datasets", params={"sha256": "abc"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (422, "sha256")


def test_a_name_is_shown_and_never_a_path(api: Api) -> None:
    dataset = upload(api, ROWS, name="../../etc/“pass”wd\u2028.jsonl").json()
    content = api.reader.get(f"/v1/datasets/{dataset['id']}/content")

    assert dataset["name"] == "../../etc/“pass”wd\u2028.jsonl"
    assert content.headers["content-disposition"].isascii()
    assert left_behind(api.backend) == [f"datasets/{dataset['id']}/data.jsonl"]
