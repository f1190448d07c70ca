"""Batched generation with a KV cache. A row's answer does not depend on the rows beside it, their order or the batch size
(but for the rounding of the matrix products).

Shapes: B rows in the batch, T positions so far, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from cpd_engine.config import GenerationSpec
from cpd_engine.data.encode import Ids
from cpd_engine.errors import StopRequested
from cpd_engine.models.decoder import Decoder
from cpd_engine.sampling import choose, draws

# Finished rows leave the batch once they are this share of it: copying the cache costs about one decoding step.
_COMPACT_AT = 0.25
# Tokens before a stop text that are read with it.
_CONTEXT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said: text without special tokens, ids without the end token, and why it ended ("length": cut short)."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: Literal["stop", "length"]


def row_seed(seed: int, row_id: str) -> int:
    """The seed of one row's sampling, from the run's seed and the row's id."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{row_id}".encode()).digest()[:8], "big")


@torch.no_grad()
def generate(
    decoder: Decoder,
    prompts: Sequence[Ids],
    *,
    settings: GenerationSpec,
    end_ids: Collection[int],
    seeds: Sequence[int],
    rooms: Sequence[int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    stops: Sequence[str] = (),
    on_token: Callable[[int, Sequence[int]], None] | None = None,
) -> list[Answer]:
    """One answer a prompt, in the prompts' order. `seeds`: one a prompt, see `row_seed`; unused at temperature 0 (greedy).

    An answer ends at any of `end_ids`, before any of the texts `stops` (its tokens are those with which that text was made), after
    `max_new_tokens` or as many as `rooms` has for it, the end token counted, or where the model's positions end.
    `on_progress(done, total)` counts answers; `on_token(i, tokens)` hears of prompt i's answer with each of its tokens.
    Raises StopRequested within one decoding step after `should_stop()` says yes.
    """
    answers: list[Answer | None] = [None] * len(prompts)
    training = decoder.model.training
    decoder.model.eval()
    try:
        by_length = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
        done = 0
        for start in range(0, len(by_length), settings.batch_size):
            chosen = by_length[start : start + settings.batch_size]
            batch = [
                _Row(index=i, prompt=prompts[i], room=_room(decoder, prompts[i], settings, rooms[i] if rooms else None))
                for i in chosen
            ]
            ends = _Ends(decoder, frozenset(end_ids), stops)
            _decode(decoder, batch, settings, ends, [seeds[i] for i in chosen], should_stop, on_token)
            for row in batch:
                reason: Literal["stop", "length"] = "stop" if row.stopped else "length"
                answers[row.index] = Answer(
                    text=ends.text_before(row.tokens), tokens=tuple(row.tokens), finish_reason=reason
                )
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(prompts))
    finally:
        decoder.model.train(training)
    return [answer for answer in answers if answer is not None]


@dataclass(slots=True, kw_only=True)
class _Row:
    """A row being decoded. `follows`: what came after each (n−1)-gram so far, for no_repeat_ngram_size."""

    index: int
    prompt: Ids
    room: int
    tokens: list[int] = field(default_factory=list)
    stopped: bool = False
    follows: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return not self.stopped and len(self.tokens) < self.room


class _Ends:
    """What ends an answer beside its length: the end tokens, and texts that may come in any tokens."""

    def __init__(self, decoder: Decoder, end_ids: frozenset[int], stops: Sequence[str]) -> None:
        self.end_ids, self._stops = end_ids, stops
        self._tokenizer = decoder.tokenizer
        # A token may stand for one byte. Those before it show how the first of them reads in its place.
        self._window = max((len(stop.encode()) for stop in stops), default=0) + _CONTEXT

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether the newest token has made one of the texts whole."""
        return bool(self._stops) and self._cut(self._decoded(tokens[-self._window :])) is not None

    def text_before(self, tokens: Sequence[int]) -> str:
        """The answer's text up to the first of the texts."""
        whole = self._decoded(tokens)
        return whole[: self._cut(whole)]

    def _cut(self, text: str) -> int | None:
        return min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))


def _room(decoder: Decoder, prompt: Ids, settings: GenerationSpec, most: int | None) -> int:
    """New tokens that a row may have: those asked for, but no more than `most` and than the model has positions."""
    if len(prompt) == 0:
        raise ValueError("a prompt needs at least one token")
    room = settings.max_new_tokens if most is None else min(settings.max_new_tokens, most)
    bound = decoder.max_positions
    return room if bound is None else max(0, min(room, bound - len(prompt)))


def _decode(
    decoder: Decoder,
    batch: Sequence[_Row],
    settings: GenerationSpec,
    ends: _Ends,
    seeds: Sequence[int],
    should_stop: Callable[[], bool] | None,
    on_token: Callable[[int, Sequence[int]], None] | None,
) -> None:
    """Fill the rows' tokens. The loop holds only open rows, or a few closed ones until it pays to take them out."""
    draws_by_row = {row.index: draws(seed, row.room, settings) for row, seed in zip(batch, seeds, strict=True)}
    rows = [row for row in batch if row.open]
    if not rows:
        return
    for row in rows:
        _remember(row, [int(token) for token in row.prompt], settings.no_repeat_ngram_size)
    ids_BT, mask_BT = _left_padded([row.prompt for row in rows], decoder.device)
    cache = DynamicCache(config=decoder.model.config)
    bound, step = decoder.max_positions, 0
    while True:
        if should_stop is not None and should_stop():
            raise StopRequested
        logits_BV = _next_logits(decoder, ids_BT, mask_BT, cache)
        _forbid_repeats(logits_BV, rows, settings.no_repeat_ngram_size)
        draws_B = [draws_by_row[row.index][step] if row.open else 0.5 for row in rows]
        chosen = choose(logits_BV, draws_B, settings)
        for row, token in zip(rows, chosen.tolist(), strict=True):
            _append(row, token, ends, settings.no_repeat_ngram_size, on_token)
        step += 1
        open_ = [at for at, row in enumerate(rows) if row.open]
        if not open_:
            return
        # A row at the model's last position was closed there, and cannot even stay.
        full = bound is not None and max(len(row.prompt) for row in rows) + step > bound
        if full or len(rows) - len(open_) >= _COMPACT_AT * len(rows):
            kept = torch.tensor(open_, device=decoder.device)
            rows = [rows[at] for at in open_]
            chosen, mask_BT = chosen[kept], mask_BT[kept]
            cache.batch_select_indices(kept)
        ids_BT = chosen[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)


def _append(
    row: _Row, token: int, ends: _Ends, ngram: int, on_token: Callable[[int, Sequence[int]], None] | None
) -> None:
    if not row.open:
        return
    if token in ends.end_ids:
        row.stopped = True
        return
    row.tokens.append(token)
    row.stopped = ends.reached(row.tokens)
    _remember(row, [*(int(one) for one in row.prompt[-ngram:]), *row.tokens][-ngram:] if ngram else [], ngram)
    if on_token is not None:
        on_token(row.index, row.tokens)


def _left_padded(prompts: Sequence[Ids], device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids_BT = np.zeros((len(prompts), longest), dtype=np.int64)
    mask_BT = np.zeros((len(prompts), longest), dtype=np.int64)
    for at, prompt in enumerate(prompts):
        ids_BT[at, longest - len(prompt) :] = prompt
        mask_BT[at, longest - len(prompt) :] = 1
    return torch.from_numpy(ids_BT).to(device), torch.from_numpy(mask_BT).to(device)


def _next_logits(decoder: Decoder, ids_BT: Tensor, mask_BT: Tensor, cache: DynamicCache) -> Tensor:
    """Logits [B, V] in float32 of the token after the last one; `ids_BT` are those the cache has not seen, `mask_BT` covers all."""
    positions = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
    known = {"position_ids": positions} if "position_ids" in decoder.accepts else {}
    states = decoder.body(
        input_ids=ids_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, **known
    ).last_hidden_state
    return decoder.logits(states[:, -1]).float()


def _remember(row: _Row, tokens: Sequence[int], ngram: int) -> None:
    for start in range(len(tokens) - ngram + 1 if ngram else 0):
        *before, last = tokens[start : start + ngram]
        row.follows.setdefault(tuple(before), []).append(last)


def _forbid_repeats(logits_BV: Tensor, rows: Sequence[_Row], ngram: int) -> None:
    """Rule out every token that would complete an n-gram the row already has, its prompt included."""
    if not ngram:
        return
    for at, row in enumerate(rows):
        recent = [*(int(one) for one in row.prompt[-ngram:]), *row.tokens]
        before = tuple(recent[len(recent) - ngram + 1 :])
        if row.open and (banned := row.follows.get(before)):
            logits_BV[at, banned] = -torch.inf
