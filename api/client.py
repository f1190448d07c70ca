"""A small typed client: what the `cpd` command uses, and what a script may.

>>> with Client() as cpd:
...     rows = cpd.upload_dataset(Path("train.jsonl"))
...     job = cpd.submit({"teacher": …, "student": …, "dataset": {"train": rows.id}})
...     for event in cpd.follow(job.id):
...         print(event.kind)
...     cpd.download(job.id, Path("student"))
...     table = cpd.comparisons.wait(cpd.comparisons.create({"base": {…}, "members": […]}).id).table
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx

from api.remote import transfer
from api.remote.answers import Checkpoint, Dataset, Estimate, Event, Job, Page, Series, Usage
from api.remote.comparisons import Comparisons
from api.remote.find import api_key, server_url
from api.remote.follow import follow
from api.remote.lists import get, pages, parsed
from api.remote.scores import Evaluation, Flips, Sample
from api.remote.transport import Patience, Transport
from cpd_engine.config import RunConfig

Spec = RunConfig | Mapping[str, Any]
Format = Literal["merged", "adapter"]
ReportFormat = Literal["html", "markdown"]
_MEDIA_TYPES = {".json": "application/json", ".csv": "text/csv", ".tsv": "text/csv"}


class Client:
    """One service, one key. Raises subclasses of api.remote.trouble.Trouble, whose text says what to do.

    Calls that change nothing are repeated on broken connections, 429 and 503; `submit` too, under an Idempotency-Key.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        found = api_key(key, os.environ)
        headers = {"User-Agent": "cpd"} | ({"Authorization": f"Bearer {found}"} if found else {})
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        # trust_env off: a proxy from the environment has no business between us and the service.
        base = server_url(url, os.environ)
        http = httpx.Client(base_url=base, headers=headers, timeout=timeout, transport=transport, trust_env=False)
        self._transport = Transport(http, patience or Patience())
        self.comparisons = Comparisons(self._transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    # Data sets

    def upload_dataset(
        self, path: Path, name: str | None = None, *, on_bytes: transfer.OnBytes | None = None
    ) -> Dataset:
        """Upload a file of rows: JSON lines, a JSON array (.json) or CSV; the service checks checksum and rows before it answers."""
        headers = {
            "Content-Type": _MEDIA_TYPES.get(path.suffix, "application/jsonl"),
            "Content-Length": str(path.stat().st_size),
            "X-Checksum-SHA256": transfer.sha256_of(path),
        }
        response = self._transport.request(
            "POST",
            "/v1/datasets",
            repeatable=False,
            params={"name": name or path.name},
            headers=headers,
            content=transfer.FileBody(path, on_bytes),
            timeout=httpx.Timeout(300.0, connect=5.0),
        )
        return parsed(Dataset, response)

    def uploaded(self, path: Path) -> Dataset | None:
        """The first data set that was made of the same bytes as the file's, if one is there and no time is set for its end."""
        sha256 = transfer.sha256_of(path)
        same = [found for found in self.datasets(sha256=sha256) if (found.sha256, found.expires_at) == (sha256, None)]
        return same[-1] if same else None

    def datasets(self, *, sha256: str | None = None) -> Iterator[Dataset]:
        """Data sets, newest first, perhaps only those whose file has this sha256."""
        return pages(self._transport, "/v1/datasets", Dataset, {"sha256": sha256} if sha256 else {})

    def dataset(self, dataset_id: str) -> Dataset:
        """One data set."""
        return get(self._transport, f"/v1/datasets/{dataset_id}", Dataset)

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a data set that no live job uses."""
        self._transport.request("DELETE", f"/v1/datasets/{dataset_id}", repeatable=True)

    # Jobs

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> Job:
        """Queue a distillation. Sent again under the same key if the connection breaks: the job exists once."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        response = self._transport.request("POST", "/v1/jobs", repeatable=True, headers=headers, json=as_json(spec))
        return parsed(Job, response)

    def probe(self, spec: Spec) -> Job:
        """Queue a job that times a few steps on a worker and ends with a forecast. It exists once, as one that is submitted."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        path = "/v1/jobs/probe"
        response = self._transport.request("POST", path, repeatable=True, headers=headers, json=as_json(spec))
        return parsed(Job, response)

    def estimate(self, spec: Spec) -> Estimate:
        """The plan of a job, what it costs by arithmetic and every warning, before anything is spent."""
        response = self._transport.request("POST", "/v1/jobs/estimate", repeatable=True, json=as_json(spec))
        return parsed(Estimate, response)

    def jobs(self, *, state: str | None = None) -> Iterator[Job]:
        """Jobs, newest first, perhaps only those in `state`."""
        return pages(self._transport, "/v1/jobs", Job, {"state": state} if state else {})

    def usage(self) -> Usage:
        """What this key's tenant has taken of what it may take."""
        return get(self._transport, "/v1/usage", Usage)

    def job(self, job_id: str) -> Job:
        """One job."""
        return get(self._transport, f"/v1/jobs/{job_id}", Job)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; a running one seals a last checkpoint first."""
        return self._ask(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Ask a job to stop where it is and keep its state."""
        return self._ask(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again."""
        return self._ask(job_id, "resume")

    def events(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The events so far, numbered from 1 without a gap."""
        while True:
            page = get(self._transport, f"/v1/jobs/{job_id}/events", Page[Event], {"after": after, "limit": 100})
            yield from page.data
            if not page.has_more or not page.data:
                return
            after = page.data[-1].seq

    def follow(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """The events as they happen, until the job is over; broken connections are taken up where they broke."""
        return follow(self._transport, job_id, after=after)

    def metrics(self, job_id: str, *, name: str | None = None, points: int = 500) -> tuple[Series, ...]:
        """Metric series of a job, thinned to `points` each."""
        query = {"points": points} | ({"name": name} if name else {})
        return get(self._transport, f"/v1/jobs/{job_id}/metrics", Page[Series], query).data

    def evaluation(self, job_id: str) -> Evaluation:
        """Scores so far and, at the end, the table."""
        return get(self._transport, f"/v1/jobs/{job_id}/evaluation", Evaluation)

    def samples(self, job_id: str, *, suite: str | None = None) -> Iterator[Sample]:
        """Every row of the test split, or of a suite, with every model's answer."""
        return pages(self._transport, f"/v1/jobs/{job_id}/samples", Sample, {} if suite is None else {"suite": suite})

    def flips(
        self,
        job_id: str,
        *,
        against: str = "untouched",
        suite: str | None = None,
        metric: str | None = None,
        limit: int = 20,
    ) -> Flips:
        """How many rows the distilled student does worse on than another model of its job, and the `limit` worst of them, at most 100."""
        asked = {"against": against, "suite": suite, "metric": metric, "limit": limit}
        query = {name: value for name, value in asked.items() if value is not None}
        return get(self._transport, f"/v1/jobs/{job_id}/flips", Flips, query)

    def report(self, job_id: str, *, format: ReportFormat = "html") -> bytes:  # noqa: A002 - the query parameter's name
        """A job's report for people: one page that wants nothing from anywhere, or Markdown. Raises Refused (409) before it has scores."""
        path = f"/v1/jobs/{job_id}/report"
        return self._transport.request("GET", path, repeatable=True, params={"format": format}).content

    # Checkpoints

    def checkpoints(self, job_id: str) -> tuple[Checkpoint, ...]:
        """What can be downloaded of a job."""
        return tuple(pages(self._transport, f"/v1/jobs/{job_id}/checkpoints", Checkpoint))

    def checkpoint(self, job_id: str, name: str = "model") -> Checkpoint:
        """One checkpoint with its sealed files."""
        return get(self._transport, f"/v1/jobs/{job_id}/checkpoints/{name}", Checkpoint)

    def download(
        self,
        job_id: str,
        target: Path,
        *,
        name: str = "model",
        format: Format = "merged",  # noqa: A002 - the query parameter's name
        on_bytes: transfer.OnBytes | None = None,
    ) -> transfer.Downloaded:
        """A checkpoint as the directory `target`: streamed, taken up after a break, verified by sha256, then moved into place."""
        target = transfer.free_directory(target)
        checkpoint = self.checkpoint(job_id, name)
        archive = target.with_name(f".{target.name}.{job_id}.{format}.tar.part")
        path = f"/v1/jobs/{job_id}/checkpoints/{name}/download?format={format}"
        transfer.fetch(self._transport, path, archive, on_bytes=on_bytes)
        try:
            files = transfer.unpack(archive, checkpoint, target, whole=format == "merged")
        finally:
            archive.unlink(missing_ok=True)
        return transfer.Downloaded(directory=target, checkpoint=checkpoint, files=files)

    def _ask(self, job_id: str, what: str) -> Job:
        response = self._transport.request("POST", f"/v1/jobs/{job_id}/{what}", repeatable=True)
        return parsed(Job, response)


def as_json(spec: Spec) -> dict[str, Any]:
    """The spec as sent: of a RunConfig only what its author wrote, so that the service's defaults and presets apply."""
    if isinstance(spec, RunConfig):
        return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dict(spec)
