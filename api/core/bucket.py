"""The store in a bucket of S3, or of a server that speaks as S3 does.

An object is there when its last part is, never before: half an upload is nothing that anybody lists or reads. Each part goes with its
sha256, by which the server refuses what was damaged on the way; what was read from the disk must come to the sha256 of the whole.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import deque
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote
from uuid import uuid4

from aiohttp import ClientError as ConnectionBroken
from botocore.exceptions import BotoCoreError

from api.core import s3
from api.core.storage import ContentDiffers, StoredFileMissing, StoreUnavailable, checked, copy_verified

T = TypeVar("T")

# S3 takes 10,000 parts: of this size up to 80 GB, and larger ones for larger files.
PART_BYTES = 8 * 2**20
_PARTS = 10_000
_RANGE_BYTES = 4 * 2**20
_AT_ONCE = 4
_CLOSE_S = 5.0
_LOOK_S = 3.0


class BucketStore:
    """A Store under `prefix` of a bucket. Credentials are those that the environment gives to every client of AWS.

    No single request takes longer than `timeout_s`, with its retries. Addresses that `link` gives hold for `link_s`, and are of
    `public_endpoint`, where others than this service reach the server.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        link_s: int | None = None,
        public_endpoint: str | None = None,
        timeout_s: float = 60.0,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._bucket, self._prefix, self._endpoint = bucket, f"{prefix}/" if prefix else "", endpoint
        self._timeout_s, self._part_bytes, self._link_s = timeout_s, part_bytes, link_s
        self._client = s3.client(endpoint, region, timeout_s)
        self._public = self._client if public_endpoint is None else s3.client(public_endpoint, region, timeout_s)

    def put(self, key: str, source: Path, *, sha256: str) -> int:
        at = self._at(key)
        with source.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size > self._part_bytes:
                self._put_in_parts(at, file, max(self._part_bytes, -(-size // _PARTS)), sha256)
                return size
            content = file.read()
        _hold_to(hashlib.sha256(content), sha256)
        self._ask("put_object", Key=at, Body=content, ChecksumSHA256=_sum(content), Metadata={"sha256": sha256})
        return len(content)

    def fetch(self, key: str, target: Path, *, sha256: str) -> None:
        copy_verified(self._read(key, 0, None, ahead=_AT_ONCE), target, key, sha256)

    def size(self, key: str) -> int:
        try:
            return int(self._ask("head_object", Key=self._at(key))["ContentLength"])
        except StoredFileMissing:
            # An answer to HEAD has no body to say what is missing: it may be the bucket.
            self.look()
            raise

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self._read(key, start, stop, ahead=1)

    def delete(self, prefix: str) -> int:
        found = list(self._listed(self._at(prefix)))
        return sum(1 for _ in self._in_order(self._begin("delete_object", Key=key) for key in found))

    def sweep(self, older_than_s: float) -> int:
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        left = s3.abandoned(s3.begun_uploads(partial(self._ask, "list_multipart_uploads", Prefix=self._prefix)), before)
        for upload in left:
            self._abort(upload["Key"], upload["UploadId"])
        return len(left)

    def link(self, key: str, *, filename: str, media_type: str) -> str | None:
        if self._link_s is None:
            return None
        address = self._public._url(
            f"{self._bucket}/{self._at(key)}",
            expires=self._link_s,
            ResponseContentDisposition=f"attachment; filename*=UTF-8''{quote(filename)}",
            ResponseContentType=media_type,
        )
        return str(self._end(self._run(address)))

    def look(self) -> None:
        asked = self._call("list_objects_v2", Prefix=self._prefix, MaxKeys=1)
        try:
            self._end(self._run(asyncio.wait_for(asked, _LOOK_S)))
        except StoredFileMissing as error:
            raise StoreUnavailable(f"bucket {self._bucket} answers that it is not there") from error

    def check(self) -> None:
        probe = self._at(f"probe-{uuid4().hex}")
        self._ask("list_objects_v2", Prefix=probe, MaxKeys=1)
        self._ask("put_object", Key=probe, Body=b"")
        self._ask("delete_object", Key=probe)

    def close(self) -> None:
        for client in {id(one): one for one in (self._client, self._public)}.values():
            if client._s3 is not None:
                with suppress(TimeoutError):
                    self._run(client._s3creator.__aexit__(None, None, None)).result(_CLOSE_S)

    def _at(self, key: str) -> str:
        return self._prefix + checked(key)

    def _put_in_parts(self, at: str, file: BinaryIO, part_bytes: int, sha256: str) -> None:
        """The object comes to be at once with the last request, which is made only if all that was read is what was announced."""
        begun = self._ask("create_multipart_upload", Key=at, ChecksumAlgorithm="SHA256", Metadata={"sha256": sha256})
        upload, digest = begun["UploadId"], hashlib.sha256()

        def sent() -> Iterator[Future[dict[str, Any]]]:
            for number, piece in enumerate(iter(lambda: file.read(part_bytes), b""), 1):
                digest.update(piece)
                part = self._part(at, upload, number, piece)
                yield self._run(part)

        try:
            parts = list(self._in_order(sent()))
            _hold_to(digest, sha256)
            self._ask("complete_multipart_upload", Key=at, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._abort(at, upload)
            raise

    async def _part(self, at: str, upload: str, number: int, content: bytes) -> dict[str, Any]:
        asked = {"Key": at, "UploadId": upload, "PartNumber": number, "Body": content}
        checksum = {"ChecksumSHA256": _sum(content)}
        answer = await self._call("upload_part", **asked, **checksum)
        return {"PartNumber": number, "ETag": answer["ETag"], **checksum}

    def _abort(self, at: str, upload: str) -> None:
        # What cannot be taken back now, `sweep` does later.
        with suppress(StoreUnavailable, StoredFileMissing):
            self._ask("abort_multipart_upload", Key=at, UploadId=upload)

    def _listed(self, at: str) -> Iterator[str]:
        """The key itself and those below it."""
        page: dict[str, Any] = {}
        while not page or page.get("IsTruncated"):
            following = {"ContinuationToken": page["NextContinuationToken"]} if page else {}
            page = self._ask("list_objects_v2", Prefix=at, **following)
            keys = (str(entry["Key"]) for entry in page.get("Contents", ()))
            yield from (key for key in keys if key == at or key.startswith(f"{at}/"))

    def _read(self, key: str, start: int, stop: int | None, *, ahead: int) -> Iterator[bytes]:
        """Range by range, so that no connection is held for a reader who takes its time; the next `ahead` of them are under way."""
        at = self._at(key)
        if stop is not None and stop <= start:
            self.size(key)
            return iter(())
        first, size = self._end(self._run(self._range(at, start, min(start + _RANGE_BYTES, stop or 2**62))))
        stop = size if stop is None else min(stop, size)
        starts = range(start + len(first), stop, _RANGE_BYTES)
        rest = (self._run(self._range(at, one, min(one + _RANGE_BYTES, stop))) for one in starts)
        return self._following(first, rest, ahead)

    def _following(self, first: bytes, rest: Iterator[Future[tuple[bytes, int]]], ahead: int) -> Iterator[bytes]:
        if first:
            yield first
        for content, _ in self._in_order(rest, ahead):
            yield content

    async def _range(self, at: str, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes [start, stop), less where the object ends before, and the size of the whole."""
        try:
            answer = await self._call("get_object", Key=at, Range=f"bytes={start}-{stop - 1}")
        except OSError as error:
            if s3.code(error) in ("InvalidRange", "416"):
                return b"", start
            raise
        async with answer["Body"] as body:
            content = await asyncio.wait_for(body.read(), self._timeout_s)
        return content, int(answer["ContentRange"].rpartition("/")[2])

    def _in_order(self, started: Iterator[Future[T]], ahead: int = _AT_ONCE - 1) -> Iterator[T]:
        """What they come to, with so many of them under way beside the one that is waited for."""
        window: deque[Future[T]] = deque()
        try:
            for future in started:
                window.append(future)
                if len(window) > ahead:
                    yield self._end(window.popleft())
            while window:
                yield self._end(window.popleft())
        finally:
            for future in window:
                future.cancel()

    def _ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        return self._end(self._begin(method, **arguments))

    def _begin(self, method: str, **arguments: Any) -> Future[dict[str, Any]]:
        return self._run(self._call(method, **arguments))

    async def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        request = self._client._call_s3(method, Bucket=self._bucket, **arguments)
        answer: dict[str, Any] = await asyncio.wait_for(request, self._timeout_s)
        return answer

    def _run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin something on fsspec's loop, which lives in a thread of its own and belongs to no other loop here."""
        return asyncio.run_coroutine_threadsafe(work, self._client.loop)

    def _end(self, future: Future[T]) -> T:
        try:
            return future.result()
        except (OSError, BotoCoreError, ConnectionBroken) as error:
            if s3.code(error) in ("NoSuchKey", "404"):
                raise StoredFileMissing from error
            raise StoreUnavailable(s3.reason(error, self._bucket, self._endpoint)) from error


def _hold_to(digest: hashlib._Hash, sha256: str) -> None:
    if digest.hexdigest() != sha256:
        raise ContentDiffers("the file is not what it was said to be")


def _sum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
