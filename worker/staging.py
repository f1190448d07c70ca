"""An attempt's files: inputs and earlier results out of the store into a fresh folder, sealed directories back into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.artifacts import queries as artifacts
from api.artifacts.queries import Sealed
from api.artifacts.tables import Artifact
from api.core.settings import Settings
from api.core.storage import ContentDiffers, Files, StoredFileMissing
from api.datasets.tables import Dataset
from api.events.queries import Line, append_events
from api.jobs.lease import Hold
from api.jobs.moves import Failure
from api.jobs.states import JobKind
from api.jobs.transitions import Claim
from cpd_engine.config import RunConfig
from cpd_engine.events import Checkpointed, SealedFile, Warned, to_dict
from cpd_engine.inputs import JudgeEndpoint
from worker.child import EngineCommand
from worker.recorder import Fenced

log = structlog.get_logger(__name__)

MANIFEST = "manifest.json"


class StagingFailed(Exception):
    """The job can never be started as it is."""

    def __init__(self, code: str, message: str) -> None:
        self.failure = Failure(code=code, message=message)
        super().__init__(message)


class Scratch:
    """`<root>/<job>/<fence>/`, made on entry together with the removal of older attempts' folders, emptied and removed on exit.

    The job's own folder stays: another worker of this machine may be about to use it. `reaper.sweep` removes it at the job's end.
    """

    def __init__(self, root: Path, hold: Hold) -> None:
        self._job, self._fence = root / hold.job_id, hold.fence
        self.path = self._job / str(hold.fence)
        self.out = self.path / "out"
        self.temporary = self.path / "tmp"
        self.datasets = self.path / "datasets"

    def __enter__(self) -> Scratch:
        self._job.mkdir(parents=True, exist_ok=True)
        # A killed worker leaves its folder behind. Never a newer one: this claim itself may be the stale one.
        for folder in self._job.iterdir():
            if folder.name.isdecimal() and int(folder.name) <= self._fence:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.out, self.temporary, self.datasets):
            folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def stage(writes: Fenced, claim: Claim, scratch: Scratch, *, store: Files, settings: Settings) -> EngineCommand:
    """Fill a fresh folder with spec, data sets and what earlier attempts sealed; the command that goes on from there.

    Raises StagingFailed, LeaseLost, and OSError for disk or store.
    """
    try:
        config = RunConfig.model_validate_json(json.dumps(claim.resolved))
    except ValidationError as error:
        raise StagingFailed(
            "validation_error", "The job's spec is not one that this worker's version knows."
        ) from error
    spec = scratch.path / "spec.json"
    spec.write_text(json.dumps(claim.resolved), "utf-8")
    rows = writes.commit(lambda session: _datasets(session, claim.tenant_id, config))
    datasets = {}
    for row in rows:
        # The suffix says to the engine how the file is read, as it did when it was uploaded.
        datasets[row.id] = scratch.datasets / f"{row.id}{PurePosixPath(row.storage_key).suffix or '.jsonl'}"
        if not fetch_verified(store, row.storage_key, datasets[row.id], row.sha256):
            raise StagingFailed(
                "invalid_dataset", f"The stored file of data set {row.id} is missing or damaged; upload it again."
            )
    restore(writes, claim.hold, scratch.out, store)
    return EngineCommand(
        program=settings.engine_command,
        verb="estimate" if claim.kind is JobKind.PROBE else "run",
        spec=spec,
        out=scratch.out,
        datasets=datasets,
        model_roots=settings.model_roots,
        hub_cache=settings.hub_cache,
        hub_endpoint=settings.hub_endpoint,
        state_cache=settings.state_cache_dir,
        state_cache_bytes=settings.state_cache_bytes,
        code_execution=settings.code_execution == "bubblewrap",
        # The key goes to no engine that does not ask it.
        judge=_judge(settings) if config.evaluation.judge is not None else None,
    )


def _judge(settings: Settings) -> JudgeEndpoint | None:
    if settings.judge_url is None or settings.judge_model is None:
        return None
    return JudgeEndpoint(
        url=settings.judge_url,
        model=settings.judge_model,
        api_key=None if settings.judge_api_key is None else settings.judge_api_key.get_secret_value(),
        prompt_price=settings.judge_prompt_price,
        completion_price=settings.judge_completion_price,
        concurrency=settings.judge_concurrency,
    )


def _datasets(session: Session, tenant_id: str, config: RunConfig) -> list[Dataset]:
    dataset = config.dataset
    wanted = {name for name in (dataset.train, dataset.validation, dataset.test) if name is not None}
    wanted |= {name for suite in config.evaluation.suites for name in suite.files.values()}
    found = session.scalars(select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.id.in_(wanted)))
    rows = [row for row in found if row.deleted_at is None]
    if missing := wanted - {row.id for row in rows}:
        raise StagingFailed("invalid_dataset", f"The data set {min(missing)} is not there any more.")
    return rows


def restore(writes: Fenced, hold: Hold, out: Path, store: Files) -> None:
    """Put back what earlier attempts sealed. A damaged directory is left out, with an event: the run then does that part again."""
    rows = writes.commit(lambda session: artifacts.restorable(session, hold.job_id))
    damaged = [row for row in rows if not _restored(row, out / inside(row.path), store)]
    for number, row in enumerate(damaged):
        log.warning("artifact_damaged", name=row.name, fence=row.fence)
        warned = Warned(
            code="checkpoint_corrupt", message=f"The stored copy of {row.name} is damaged; going on without it."
        )
        # The engine's lines count from 1; ours of this attempt lie below.
        line = Line(eseq=-number, kind=warned.kind, data=to_dict(warned))
        writes.commit(lambda session, line=line: append_events(session, hold, [line]))  # type: ignore[misc]  # binds one line


def _restored(row: Artifact, target: Path, store: Files) -> bool:
    for file in row.files:
        key, path = f"{row.storage_prefix}/{file['path']}", target / inside(file["path"])
        if not fetch_verified(store, key, path, file["sha256"]):
            shutil.rmtree(target, ignore_errors=not target.exists())
            return False
    return True


def fetch_verified(store: Files, key: str, target: Path, sha256: str) -> bool:
    """Copy a file out of the store; False, where it is missing there or is not what it was."""
    try:
        store.fetch(key, target, sha256=sha256)
    except (StoredFileMissing, ContentDiffers):
        return False
    return True


def upload(
    sealed: Checkpointed,
    *,
    out: Path,
    store: Files,
    hold: Hold,
    new_id: Callable[[], str],
    expect: Callable[[str], None],
) -> Sealed | None:
    """Put a sealed directory into the store, each file verified; None where the engine has meanwhile deleted or replaced it.

    `expect` is told the prefix before the first file goes there.

    That may happen to training states and to `best`, whose successors are announced in turn; of other roles it is an OSError.
    """
    manifest = next((file for file in sealed.files if file.path == MANIFEST), None)
    if manifest is None:
        raise OSError(f"{sealed.name} was sealed without a manifest")
    files = [manifest, *(file for file in sealed.files if file is not manifest)]
    # The id is in the prefix: `best` is sealed again and again, and the old one stands until the new one's row does.
    artifact_id = new_id()
    prefix = f"jobs/{hold.job_id}/{hold.fence}/{sealed.name}/{artifact_id}"
    expect(prefix)
    for file in files:
        if not _put_verified(store, f"{prefix}/{file.path}", out / inside(sealed.path) / inside(file.path), file):
            store.delete(prefix)
            if sealed.role in ("training", "best"):
                log.warning("sealed_directory_gone", name=sealed.name)
                return None
            raise OSError(f"{sealed.name} differs from what the engine announced")
    return Sealed(
        id=artifact_id,
        name=sealed.name,
        role=sealed.role,
        path=sealed.path,
        storage_prefix=prefix,
        files=[{"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files],
        manifest_sha256=manifest.sha256,
        size_bytes=sum(file.size_bytes for file in files),
        step=sealed.step,
        epoch=sealed.epoch,
        metrics=sealed.metrics,
    )


def _put_verified(store: Files, key: str, source: Path, announced: SealedFile) -> bool:
    try:
        return not source.is_symlink() and store.put(key, source, sha256=announced.sha256) == announced.size_bytes
    except (FileNotFoundError, ContentDiffers):
        return False


def inside(path: str) -> PurePosixPath:
    """A relative path that stays below where it starts. Raises OSError."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise OSError("a path of a sealed directory leads out of the run directory")
    return relative
