"""Models that a worker keeps at hand for questions: each a folder of weights and an engine that has loaded it."""

from __future__ import annotations

import os
import queue
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from api.artifacts.tables import Artifact
from api.core.db import reading
from api.core.settings import Settings
from api.core.storage import Store, StoreUnavailable
from api.jobs.tables import Job
from cpd_engine.conversation import Order, Said, line, read_said
from worker.child import Child, engine_environment
from worker.staging import fetch_verified, inside

_LOG_BYTES = 2**20


class ModelUnavailable(Exception):
    """The model of a question is not to be had. The message is for whoever asked."""


@dataclass(slots=True, kw_only=True)
class Model:
    """A loaded model. What it says comes as `Said`, and None once its process has ended."""

    child: Child
    folder: Path
    said: queue.SimpleQueue[Said | None]
    used_at: float = field(default_factory=monotonic)

    def tell(self, order: Order) -> None:
        """Ask, or take a question back. Raises OSError where the process is gone."""
        self.child.tell(line(order))

    def close(self) -> None:
        """End the process and remove the weights."""
        self.child.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Models:
    """The last few models asked, in `root`, which is this worker's own."""

    def __init__(self, root: Path, make: sessionmaker[Session], store: Store, settings: Settings) -> None:
        self._root, self._make, self._store, self._settings = root, make, store, settings
        self._held: dict[str, Model] = {}

    @property
    def loaded(self) -> bool:
        """True while some model is kept."""
        return bool(self._held)

    def get(self, tenant_id: str, source: Mapping[str, Any]) -> Model:
        """The model of a source, started where it is not at hand. Raises ModelUnavailable, OSError and SQLAlchemyError."""
        key = str(sorted(source.items()))
        model = self._held.get(key)
        if model is not None and model.child.returncode is not None:
            self.discard(model)
            model = None
        if model is None:
            while len(self._held) >= self._settings.serving_models:
                self.discard(min(self._held.values(), key=lambda held: held.used_at))
            model = self._held[key] = self._started(tenant_id, source)
        model.used_at = monotonic()
        return model

    def discard(self, model: Model) -> None:
        """Let a model go."""
        self._held = {key: held for key, held in self._held.items() if held is not model}
        model.close()

    def discard_idle(self) -> None:
        """Let go of those that nobody has asked for a while."""
        for model in list(self._held.values()):
            if monotonic() - model.used_at > self._settings.serving_idle_s:
                self.discard(model)

    def close(self) -> None:
        """Let go of all."""
        for model in list(self._held.values()):
            self.discard(model)
        shutil.rmtree(self._root, ignore_errors=True)

    def _started(self, tenant_id: str, source: Mapping[str, Any]) -> Model:
        folder = self._root / secrets.token_hex(8)
        folder.mkdir(parents=True)
        try:
            weights = self._weights(tenant_id, source, folder)
            return self._engine(weights, folder, str(source["template"]))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _weights(self, tenant_id: str, source: Mapping[str, Any], folder: Path) -> Path:
        if "artifact" in source:
            return self._fetched(tenant_id, str(source["artifact"]), folder / "model")
        for root in self._settings.model_roots:
            path = root / inside(str(source["local"]))
            if (path / "config.json").is_file():
                self._check_size(sum(file.stat().st_size for file in path.glob("*.safetensors")))
                return path
        raise ModelUnavailable("The worker has no such model in its folders.")

    def _fetched(self, tenant_id: str, artifact_id: str, target: Path) -> Path:
        with reading(self._make) as session:
            own = (Artifact.id == artifact_id, Job.tenant_id == tenant_id, Artifact.expired_at.is_(None))
            row = session.scalar(select(Artifact).join(Job, Job.id == Artifact.job_id).where(*own))
        if row is None:
            raise ModelUnavailable("The model is not there any more.")
        self._check_size(row.size_bytes)
        for file in row.files:
            path = inside(file["path"])
            try:
                whole = fetch_verified(self._store, f"{row.storage_prefix}/{path}", target / path, file["sha256"])
            except StoreUnavailable as error:
                # Whoever asked may ask again; the desk goes on with other questions, whose models may be at hand.
                raise ModelUnavailable("The store of models does not answer now; ask again later.") from error
            if not whole:
                raise ModelUnavailable("The stored files of the model are missing or damaged.")
        return target

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._settings.serving_max_bytes:
            raise ModelUnavailable(f"Models of at most {self._settings.serving_max_bytes} bytes can be asked here.")

    def _engine(self, weights: Path, folder: Path, template: str) -> Model:
        said: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        settings = self._settings

        def arguments(events: int) -> list[str]:
            given = {
                "--model": weights,
                "--template": template,
                "--device": settings.serving_device,
                "--threads": settings.serving_threads,
                "--events-fd": events,
            }
            return [*settings.engine_command, "serve", *(str(word) for pair in given.items() for word in pair)]

        def on_lines(lines: list[bytes]) -> None:
            for text in lines:
                said.put(read_said(text))

        child = Child(
            arguments,
            environment=engine_environment(os.environ, temporary=folder),
            log=folder / "engine.log",
            log_bytes=_LOG_BYTES,
            on_lines=on_lines,
            on_exit=lambda: said.put(None),
        )
        return Model(child=child, folder=folder, said=said)
