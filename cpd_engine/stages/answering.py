"""Answers by a model before it is trained: what their decoding steps take, and after how many of them it ends by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cpd_engine.config import GenerationSpec
from cpd_engine.generate import generate
from cpd_engine.models.decoder import Decoder
from cpd_engine.stages.context import Run
from cpd_engine.stages.prepare import Prepared
from cpd_engine.stopwatch import Stopwatch
from cpd_engine.timing import Amount
from cpd_engine.workload import Kind

# Decoding steps that are timed, and for how many steps a model is listened to before it is taken never to end.
_DECODED = 8
_LISTENED = 48
_LISTENED_ROWS = 8


def time_answers(run: Run, prepared: Prepared, watch: Stopwatch, decoder: Decoder, kind: Kind) -> int:
    """Time a full batch and single rows, then listen to where answers end: their mean number of decoding steps."""
    settings = run.config.evaluation.generation
    time_decoding(run, prepared, watch, decoder, kind, settings)
    listened = settings.model_copy(update={"max_new_tokens": min(_LISTENED, settings.max_new_tokens)})
    heard = _answer(run, prepared, decoder, _LISTENED_ROWS, listened, (prepared.end,))
    return round(sum(settings.max_new_tokens if steps is None else steps for steps in heard) / len(heard))


def time_decoding(
    run: Run, prepared: Prepared, watch: Stopwatch, decoder: Decoder, kind: Kind, settings: GenerationSpec
) -> None:
    """Time a full batch and single rows of answers that do not end."""
    prompts = prepared.test.prompts
    full, few = min(settings.batch_size, len(prompts)), min(_DECODED, settings.max_new_tokens)
    for rows, steps in ((1, 1), (full, 1), (full, few), (1, few)):
        amount = Amount(pieces=steps, units=steps * rows, others=rows * max(map(len, prompts[:rows])))
        bounded = settings.model_copy(update={"max_new_tokens": steps})
        watch.time(kind, amount, partial(_answer, run, prepared, decoder, rows, bounded, ()))


def _answer(
    run: Run, prepared: Prepared, decoder: Decoder, rows: int, settings: GenerationSpec, end_ids: Sequence[int]
) -> list[int | None]:
    """Decoding steps of each answer, None of one that did not end."""
    prompts = prepared.test.prompts[:rows]
    with run.runtime.autocast():
        answers = generate(decoder, prompts, settings=settings, end_ids=end_ids, seeds=range(len(prompts)))
    return [len(one.tokens) + 1 if one.finish_reason == "stop" else None for one in answers]
