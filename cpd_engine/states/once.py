"""Asking a teacher once: its body is loaded, runs over all samples and leaves memory, or is not loaded at all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from cpd_engine.data.encode import Sample
from cpd_engine.models.decoder import Decoder
from cpd_engine.projection import Head, head_of
from cpd_engine.runtime import Runtime
from cpd_engine.states import entry
from cpd_engine.states.entry import Filling, Form
from cpd_engine.states.fill import InMemory, Sink, fill
from cpd_engine.states.folder import Folder
from cpd_engine.states.kept import Kept
from cpd_engine.states.key import Key
from cpd_engine.states.layout import Layout
from cpd_engine.states.records import HiddenRecords, Records, own_head, read_head, write_head
from cpd_engine.states.shelf import Wanted, Watch, find_or_fill

Progress = Callable[[int, int], None]


class WidthUnexpected(Exception):
    """The head takes states of another width than the model's config tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a teacher is asked: about which samples, what is kept of its answer, and how it is loaded if it must be."""

    samples: Sequence[Sample]
    layout: Layout
    records: Records
    runtime: Runtime
    load: Callable[[], Decoder]

    @property
    def form(self) -> Form:
        """Of the kept rows."""
        return Form(
            tokens=self.layout.tokens, width=self.records.width, dtype=self.records.dtype, layout=self.layout.digest
        )

    def in_memory(self, on_progress: Progress) -> Kept:
        """Ask, and keep the answer in this process."""
        sink = InMemory(self.form.tokens, self.form.width, self.form.dtype)
        heads: list[Head] = []
        self._ask(sink, lambda head: heads.append(own_head(head)), on_progress)
        (head,) = heads
        self._leave()
        return self._kept(sink.rows, head, lambda: None)

    def on_disk(self, folder: Folder, key: Key, *, head_bytes: int, watch: Watch, on_progress: Progress) -> Kept:
        """The answer as it lies in the folder, asked for if it does not. Raises as `find_or_fill`, and WidthUnexpected."""

        def answer(filling: Filling) -> None:
            self._ask(filling, lambda head: filling.put_head(lambda folder: write_head(head, folder)), on_progress)

        wanted = Wanted(name=key.name, form=self.form, told=asdict(key), head_bytes=head_bytes)
        found = find_or_fill(folder, wanted, fill=answer, watch=watch)
        self._leave()
        head = read_head(found.path, self.runtime.device)
        return self._kept(entry.mapped(found.path, self.form), head, found.lock.release)

    def _ask(self, sink: Sink, put_head: Callable[[Head], None], on_progress: Progress) -> None:
        decoder = self.load()
        head = head_of(decoder)
        if isinstance(self.records, HiddenRecords) and head.weight_WD.shape[1] != self.records.width:
            raise WidthUnexpected(f"{head.weight_WD.shape[1]} and not {self.records.width}")
        put_head(head)
        fill(sink, decoder, self.samples, self.layout, self.records, runtime=self.runtime, on_progress=on_progress)

    def _leave(self) -> None:
        """Give the body's memory back: models refer to themselves, so that only the collector finds them."""
        gc.collect()
        self.runtime.free_memory()

    def _kept(self, rows: Tensor, head: Head, release: Callable[[], None]) -> Kept:
        return Kept(rows, head, self.samples, self.layout, self.records, device=self.runtime.device, release=release)
