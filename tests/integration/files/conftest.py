"""The store of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from api.core.bucket import BucketStore
from api.core.directory import DirectoryStore
from api.core.storage import Store
from tests.buckets import PREFIX, Bucket

# The least that S3 takes; a larger file goes in parts.
PART_BYTES = 5 * 2**20


def bucket_store(bucket: Bucket, *, timeout_s: float = 20.0) -> BucketStore:
    """A store in the bucket."""
    return BucketStore(bucket.name, PREFIX, endpoint=bucket.server.endpoint, timeout_s=timeout_s, part_bytes=PART_BYTES)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each test that asks for it runs on both kinds."""
    if request.param == "folder":
        yield DirectoryStore(tmp_path / "store")
        return
    with closing(bucket_store(request.getfixturevalue("bucket"))) as made:
        yield made
