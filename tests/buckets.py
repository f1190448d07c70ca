"""Buckets for tests, on a real server that speaks as S3 does, looked at by another client than the service's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import boto3
import pytest

from tests.servers import S3Server, s3_server

PREFIX = "team/cpd"
# What a client of AWS's reads; the configuration of whoever runs the tests is none of theirs.
KEYS = {
    "AWS_ACCESS_KEY_ID": "an-id",
    "AWS_SECRET_ACCESS_KEY": "c4n4ry-bucket",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """An empty bucket; the service keeps its own under PREFIX."""

    name: str
    server: S3Server
    client: Any

    @property
    def settings(self) -> dict[str, str]:
        """What tells the service to keep its files here."""
        return {"store_url": f"s3://{self.name}/{PREFIX}", "s3_endpoint": self.server.endpoint}

    def objects(self) -> dict[str, bytes]:
        """Every object by its key below PREFIX."""
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", ())
        return {entry["Key"].removeprefix(f"{PREFIX}/"): self.content(entry["Key"]) for entry in found}

    def content(self, key: str) -> bytes:
        """An object by its whole key."""
        with closing(self.client.get_object(Bucket=self.name, Key=key)["Body"]) as body:
            return bytes(body.read())

    def write(self, key: str, content: bytes) -> None:
        """Put something under a key below PREFIX, whatever the service thinks of it."""
        self.client.put_object(Bucket=self.name, Key=f"{PREFIX}/{key}", Body=content)

    def uploads(self) -> list[str]:
        """Keys of the uploads that have begun and not ended."""
        return [one["Key"] for one in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())]


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[S3Server, Any]]:
    """The server, and a client of its."""
    with s3_server() as server, pytest.MonkeyPatch.context() as environment:
        for name, value in KEYS.items():
            environment.setenv(name, value)
        client = boto3.client("s3", endpoint_url=server.endpoint)
        environment.undo()
        with closing(client):
            yield server, client


@pytest.fixture
def bucket(s3: tuple[S3Server, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket, and the keys to it in the environment."""
    server, client = s3
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    made = Bucket(name=f"bucket-{uuid4().hex[:12]}", server=server, client=client)
    client.create_bucket(Bucket=made.name)
    yield made
    # A test may have left it frozen.
    server.guarded.thaw()
