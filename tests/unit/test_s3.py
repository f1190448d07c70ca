"""Which uploads to a bucket are given up. The server of the tests says of each that it began in 2010, and all on one page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from api.core import s3

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def begun(key: str, before_noon_s: float = 0.0) -> dict[str, Any]:
    return {"Key": key, "UploadId": f"u-{key}", "Initiated": NOON - timedelta(seconds=before_noon_s)}


def test_an_upload_is_abandoned_that_began_before_the_time_and_no_later_one() -> None:
    uploads = [begun("day", 86_401.0), begun("less", 86_399.0), begun("now"), begun("ahead", -5.0)]

    assert s3.abandoned(uploads, NOON - timedelta(days=1)) == [begun("day", 86_401.0)]


def test_uploads_of_every_page_are_told() -> None:
    pages: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {
        (): {"Uploads": [begun("a"), begun("b")], "IsTruncated": True, "NextKeyMarker": "b", "NextUploadIdMarker": "u-b"},
        (("KeyMarker", "b"), ("UploadIdMarker", "u-b")): {
            "Uploads": [begun("c")], "IsTruncated": True, "NextKeyMarker": "c", "NextUploadIdMarker": "u-c",
        },
        (("KeyMarker", "c"), ("UploadIdMarker", "u-c")): {"IsTruncated": False},
    }  # fmt: skip

    def ask(**after: str) -> dict[str, Any]:
        return pages[tuple(sorted(after.items()))]

    assert [upload["Key"] for upload in s3.begun_uploads(ask)] == ["a", "b", "c"]
