"""The desk: a worker's thread that answers questions to models, one at a time, beside whatever job is at hand."""

from __future__ import annotations

import contextvars
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from api.completions import queries
from api.completions.queries import Question
from api.core.db import now, reading, transaction
from api.core.settings import Settings
from api.core.storage import Store
from api.jobs.tables import Worker
from cpd_engine.conversation import Order, Said, ask_from
from worker.served import Model, Models, ModelUnavailable

log = structlog.get_logger(__name__)

LEASE_S = 10.0
_BEAT_S = 1.0
_WRITE_S = 0.1
# For an engine that was told to break off, which it does between two tokens.
_LEAVE_S = 10.0
_DEAD_S = 60.0
# Between two looks without a model: whoever asks first waits for one anyway, and most workers are never asked.
_UNUSED_S = 1.0
FOLDER = "serving"


class Desk:
    """Looks for a question until closed, every `serving_poll_s` while it has a model and about once a second while not.

    Its models lie under `<scratch>/serving/<worker>/`.
    """

    def __init__(self, make: sessionmaker[Session], store: Store, settings: Settings, worker_id: str) -> None:
        self._make, self._settings, self._worker_id = make, settings, worker_id
        self._root = settings.scratch_dir / FOLDER
        self._models = Models(self._root / worker_id, make, store, settings)
        self._closing = threading.Event()
        # Told once an outage, not at every look.
        self._away = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="desk", daemon=True)

    def __enter__(self) -> Desk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Break off what is at hand; its asker asks another worker."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            sweep(self._make, self._root)
        except (SQLAlchemyError, OSError) as error:
            log.warning("desk_not_swept", error=type(error).__name__)
        try:
            while not self._closing.is_set():
                if not self._once():
                    self._models.discard_idle()
                    self._closing.wait(self._pause_s())
        finally:
            self._models.close()

    def _pause_s(self) -> float:
        poll_s = self._settings.serving_poll_s
        return poll_s if self._models.loaded else max(poll_s, _UNUSED_S)

    def _once(self) -> bool:
        """Answer the question that has waited longest; False where none waits."""
        try:
            question = self._claimed()
        except SQLAlchemyError as error:
            if not self._away:
                log.warning("desk_database_unavailable", error=type(error).__name__)
            self._away = True
            return False
        self._away = False
        if question is None:
            return False
        with structlog.contextvars.bound_contextvars(completion_id=question.id):
            try:
                self._answer(question)
            except Exception:
                # Whoever asked sees the claim run out; this desk goes on with others.
                log.exception("answer_broke")
        return True

    def _claimed(self) -> Question | None:
        with reading(self._make) as session:
            if session.scalar(queries.any_queued()) is None:
                return None
        with transaction(self._make) as session:
            return queries.claim(session, self._worker_id, lease_s=LEASE_S)

    def _answer(self, question: Question) -> None:
        started = monotonic()
        with self._held(question) as left:
            try:
                model = self._models.get(question.tenant_id, question.source)
                model.tell(Order(id=question.id, ask=ask_from(question.ask)))
            except ModelUnavailable as error:
                self._write(question, state="failed", failure_code="model_unavailable", failure_message=str(error))
                return
            ended = self._followed(question, model, left)
        log.info("question_answered", ended=ended, duration_s=round(monotonic() - started, 3))

    @contextmanager
    def _held(self, question: Question) -> Iterator[threading.Event]:
        """Keep the claim from running out, for a model may take long to come; the event says that nobody waits any more."""
        left, done = threading.Event(), threading.Event()

        def beat() -> None:
            while not done.wait(_BEAT_S):
                if not self._write(question):
                    left.set()
                    return

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield left
        finally:
            done.set()
            thread.join()

    def _followed(self, question: Question, model: Model, left: threading.Event) -> str:
        """Write what the model says until it has ended, or nobody waits; how it was."""
        shown = written = ""
        written_at = monotonic()
        while not (left.is_set() or self._closing.is_set()):
            try:
                said = model.said.get(timeout=_WRITE_S)
            except queue.Empty:
                said = Said(id="", text="")
            if said is None:
                self._crashed(question, model)
                return "model_crashed"
            if said.id == question.id:
                if said.last:
                    self._write(question, **_ending(said))
                    return said.code or "finished"
                shown = said.text
            if shown != written and monotonic() - written_at >= _WRITE_S:
                if not self._write(question, text=_storable(shown)):
                    break
                written, written_at = shown, monotonic()
        self._take_back(question, model)
        return "left"

    def _crashed(self, question: Question, model: Model) -> None:
        log.warning("model_crashed", returncode=model.child.returncode, tail=model.child.log_tail()[-500:])
        self._models.discard(model)
        self._write(question, state="failed", failure_code="model_crashed")

    def _take_back(self, question: Question, model: Model) -> None:
        """Have the model break off; one that does not is still loading, or hangs, and goes."""
        deadline = monotonic() + _LEAVE_S
        with suppress(OSError, queue.Empty):
            model.tell(Order(id=question.id))
            while (said := model.said.get(timeout=max(0.0, deadline - monotonic()))) is not None:
                if said.id == question.id and said.last:
                    return
        self._models.discard(model)

    def _write(self, question: Question, **values: Any) -> bool:
        try:
            with transaction(self._make) as session:
                return queries.write(session, question, lease_s=LEASE_S, **values)
        except SQLAlchemyError as error:
            log.warning("answer_not_written", error=type(error).__name__)
            return False


def _ending(said: Said) -> dict[str, Any]:
    if said.code is not None:
        return {"state": "failed", "failure_code": said.code, "failure_message": _storable(said.text)}
    return {
        "state": "done",
        "text": _storable(said.text),
        "finish_reason": said.finish_reason,
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
    }


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\0", "�")


def sweep(make: sessionmaker[Session], root: Path) -> None:
    """Remove the weights that workers of this machine left when they were killed."""
    found = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    with reading(make) as session:
        alive = set(session.scalars(select(Worker.id).where(Worker.seen_at >= now(-_DEAD_S))))
    for path in found:
        if path.name not in alive:
            shutil.rmtree(path, ignore_errors=True)
