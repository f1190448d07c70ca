"""What is a bucket's alone: uploads that are cut, a server that is away, and what is said of one that cannot be used."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from api.core.archive import sha256_of
from api.core.bucket import BucketStore
from api.core.settings import Settings
from api.core.storage import ContentDiffers, StoredFileMissing, StoreUnavailable
from api.core.stores import open_store
from tests.buckets import PREFIX, Bucket
from tests.deadline import eventually
from tests.integration.files.conftest import PART_BYTES, bucket_store

PUT = """
import sys
from pathlib import Path
from api.core.bucket import BucketStore
bucket, prefix, endpoint, source = sys.argv[1:]
BucketStore(bucket, prefix, endpoint=endpoint, part_bytes=5 * 2**20).put("jobs/j/1/model/w", Path(source), sha256="0" * 64)
"""


@pytest.fixture
def store(bucket: Bucket) -> Iterator[BucketStore]:
    with closing(bucket_store(bucket)) as made:
        yield made


def sparse(tmp_path: Path, size: int) -> Path:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_file_in_parts_is_one_object_that_names_its_sha256(
    bucket: Bucket, store: BucketStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * PART_BYTES + 1))
    store.put("a/b", source, sha256=sha256_of(source))
    head = bucket.client.head_object(Bucket=bucket.name, Key=f"{PREFIX}/a/b")

    assert bucket.objects() == {"a/b": source.read_bytes()}
    assert head["Metadata"] == {"sha256": sha256_of(source)}
    # Which says how it came: three parts.
    assert head["ETag"].endswith('-3"')
    assert bucket.uploads() == []


def test_a_large_file_that_is_not_what_it_was_said_to_be_leaves_no_part(
    bucket: Bucket, store: BucketStore, tmp_path: Path
) -> None:
    with pytest.raises(ContentDiffers):
        store.put("a/b", sparse(tmp_path, 2 * PART_BYTES + 1), sha256="0" * 64)

    assert (bucket.objects(), bucket.uploads()) == ({}, [])


def test_an_upload_whose_process_is_killed_is_no_file_and_its_parts_are_swept(
    bucket: Bucket, store: BucketStore, tmp_path: Path
) -> None:
    source = str(sparse(tmp_path, 2**30))
    arguments = [bucket.name, PREFIX, bucket.server.endpoint, source]
    sending = subprocess.Popen([sys.executable, "-c", PUT, *arguments])
    try:
        eventually(bucket.uploads, within_s=60, what="an upload under way")
        assert sending.poll() is None
    finally:
        sending.send_signal(signal.SIGKILL)
        sending.wait()

    assert bucket.objects() == {}
    with pytest.raises(StoredFileMissing):
        store.size("jobs/j/1/model/w")
    assert store.sweep(3600.0) == 1
    assert bucket.uploads() == []


def test_a_server_that_hangs_is_given_up_and_what_hung_never_comes_to_be(bucket: Bucket, tmp_path: Path) -> None:
    source = sparse(tmp_path, 3 * PART_BYTES)
    with closing(bucket_store(bucket, timeout_s=2.0)) as hasty, closing(bucket_store(bucket)) as store:
        bucket.server.guarded.freeze()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            hasty.put("k", source, sha256=sha256_of(source))
        bucket.server.guarded.thaw()
        with pytest.raises(StoredFileMissing):
            store.size("k")
        store.put("k", source, sha256=sha256_of(source))

        assert store.size("k") == 3 * PART_BYTES


def test_what_lies_in_a_bucket_that_is_gone_is_not_said_to_be_missing(bucket: Bucket, store: BucketStore) -> None:
    store.look()
    bucket.client.delete_bucket(Bucket=bucket.name)
    for ask in (store.look, partial(store.size, "k"), partial(store.read, "k")):
        with pytest.raises(StoreUnavailable, match=f"there is no bucket {bucket.name}"):
            ask()


def settings(tmp_path: Path, **changed: str) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path, **changed})


def complaint(known: Settings) -> str:
    with closing(open_store(known)) as store, pytest.raises(StoreUnavailable) as refused:
        store.check()
    return str(refused.value)


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(bucket: Bucket, tmp_path: Path) -> None:
    known = settings(tmp_path, store_url="s3://nobody-s", s3_endpoint=bucket.server.endpoint)

    assert complaint(known) == (
        f"there is no bucket nobody-s at {bucket.server.endpoint}: make it, or mend CPD_STORE_URL"
    )


def test_a_server_that_is_not_there_is_named_with_what_to_do(bucket: Bucket, tmp_path: Path) -> None:
    known = settings(tmp_path, store_url="s3://bucket", s3_endpoint="http://127.0.0.1:9")

    assert complaint(known) == (
        "bucket bucket does not answer at http://127.0.0.1:9 (EndpointConnectionError): see CPD_S3_ENDPOINT"
    )


def test_without_keys_it_is_said_which_are_wanted(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in complaint(settings(tmp_path, **bucket.settings))


def test_without_the_extra_it_is_said_what_to_install() -> None:
    program = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from api.core.settings import Settings; from api.core.stores import open_store\n"
        "open_store(Settings(store_url='s3://bucket'))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert "CPD_STORE_URL names a bucket, for which s3fs is missing: pip install 'cpd[s3]'" in ended.stderr


@pytest.mark.parametrize(
    "command", [["-m", "api.cli", "serve", "--port", "0"], ["-m", "worker"]], ids=["api", "worker"]
)
def test_neither_api_nor_worker_starts_without_its_bucket(bucket: Bucket, tmp_path: Path, command: list[str]) -> None:
    environment = os.environ | {
        "CPD_DATA_DIR": str(tmp_path),
        "CPD_STORE_URL": "s3://nobody-s",
        "CPD_S3_ENDPOINT": bucket.server.endpoint,
    }
    program = command if command[1] == "worker" else ["-c", "from api.cli import main; main()", *command[2:]]
    ended = subprocess.run(
        [sys.executable, *program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == (4 if command[1] == "worker" else 2), ended.stderr
    assert "there is no bucket nobody-s" in ended.stderr
    assert "Traceback" not in ended.stderr
