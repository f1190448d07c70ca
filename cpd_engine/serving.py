"""`python -m cpd_engine serve`: one loaded model that answers what comes over standard input, one question at a time.

Standard input is the watchdog as well: at its end the whole process group goes.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from cpd_engine.config import GenerationSpec
from cpd_engine.conversation import Ask, Order, Said, Template, line, read_order
from cpd_engine.data.encode import Ids, encode_prompts, encode_texts, end_id
from cpd_engine.data.records import Row, Turn
from cpd_engine.data.turns import transcript
from cpd_engine.errors import EngineError, StopRequested
from cpd_engine.fleet import ALONE
from cpd_engine.generate import generate
from cpd_engine.models.decoder import Decoder
from cpd_engine.models.load import load
from cpd_engine.runtime import Runtime, choose_device, choose_precision

TOO_LONG = "context_length_exceeded"
# What decoding gives for the beginning of a character whose other bytes are still to come.
_UNFINISHED = "�"


def serve(arguments: argparse.Namespace) -> int:
    """Load the model and answer until standard input ends, which ends this process. Exit code 20 where it cannot be loaded."""
    desk = Desk()
    threading.Thread(target=_listen, args=(desk,), name="orders", daemon=True).start()
    # The descriptor is the worker's pipe; a line at a time, so that none is ever half written by two.
    with os.fdopen(arguments.events_fd, "wb", buffering=0) as events:

        def say(said: Said) -> None:
            events.write(line(said))

        try:
            model = Served(arguments.model, arguments.template, device=arguments.device, threads=arguments.threads)
        except EngineError as error:
            while True:
                order = desk.orders.get()
                say(Said(id=order.id, text=str(error), code=error.code))
        while True:
            order = desk.orders.get()
            assert order.ask is not None
            model.answer(order.id, order.ask, say, lambda order=order: order.id in desk.cancelled)  # type: ignore[misc]  # binds one order


@dataclass(slots=True)
class Desk:
    """Questions in the order in which they came, and those that nobody waits for any more."""

    orders: queue.SimpleQueue[Order] = field(default_factory=queue.SimpleQueue)
    cancelled: set[str] = field(default_factory=set)


def _listen(desk: Desk) -> None:
    with open(0, "rb", closefd=False) as orders:
        for text in orders:
            order = read_order(text)
            if order.ask is None:
                desk.cancelled.add(order.id)
            else:
                desk.orders.put(order)
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)


class Served:
    """A model directory, loaded, with the template in which it is asked."""

    def __init__(self, model: Path, template: Template, *, device: Literal["cpu", "gpu"], threads: int) -> None:
        torch.set_num_threads(threads)
        place = choose_device(ALONE) if device == "gpu" else torch.device("cpu")
        precision = choose_precision("auto", place)
        self._runtime = Runtime(device=place, precision=precision, threads=threads)
        self._decoder: Decoder = load(model, dtype=self._runtime.frozen_dtype, device=place)
        tokenizer = self._decoder.tokenizer
        has_template = bool(tokenizer.chat_template)
        self._template: Literal["paper", "chat"] = (
            ("chat" if has_template else "paper") if template == "auto" else template
        )
        self._ends = {end_id(tokenizer, self._template), end_id(tokenizer, "paper")}

    def answer(self, question: str, ask: Ask, say: Callable[[Said], None], should_stop: Callable[[], bool]) -> None:
        """Say the answer as it comes, and how it ended."""
        if should_stop():
            say(Said(id=question, text="", code="cancelled"))
            return
        try:
            prompt = self._prompt(ask)
            bound = self._decoder.max_positions
            if len(prompt) == 0 or (bound is not None and len(prompt) >= bound):
                told = (
                    f"The prompt has {len(prompt)} tokens; the model has {bound} positions, and needs one of a prompt."
                )
                say(Said(id=question, text=told, code=TOO_LONG))
                return
            say(self._answered(question, ask, prompt, say, should_stop))
        except StopRequested:
            say(Said(id=question, text="", code="cancelled"))
        except EngineError as error:
            say(Said(id=question, text=str(error), code=error.code))
        except torch.OutOfMemoryError:
            say(Said(id=question, text="The accelerator's memory did not suffice.", code="out_of_memory"))

    def _answered(
        self, question: str, ask: Ask, prompt: Ids, say: Callable[[Said], None], should_stop: Callable[[], bool]
    ) -> Said:
        settings = GenerationSpec(
            temperature=ask.temperature, top_p=ask.top_p, max_new_tokens=ask.max_tokens, batch_size=1
        )
        shown = ""

        def heard(_row: int, tokens: Sequence[int]) -> None:
            nonlocal shown
            text = settled(self._text(tokens), ask.stop)
            if text != shown:
                shown = text
                say(Said(id=question, text=text))

        with self._runtime.autocast() if self._runtime.device.type != "cpu" else nullcontext():
            (answer,) = generate(
                self._decoder,
                [prompt],
                settings=settings,
                end_ids=self._ends,
                seeds=[ask.seed],
                should_stop=should_stop,
                stops=ask.stop,
                on_token=heard,
            )
        return Said(
            id=question,
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=len(prompt),
            completion_tokens=len(answer.tokens),
        )

    def _prompt(self, ask: Ask) -> Ids:
        if ask.prompt is not None:
            return encode_texts(self._decoder.tokenizer, [ask.prompt], "paper")[0]
        turns = tuple(Turn(message.role, message.content) for message in ask.messages)
        plain = turns[0].content if len(turns) == 1 else transcript(turns)
        row = Row(id="", instruction=plain, input="", response="", references=(), turns=turns)
        return encode_prompts(self._decoder.tokenizer, [row], self._template)[0]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._decoder.tokenizer.decode(list(tokens), skip_special_tokens=True))


def settled(text: str, stops: Sequence[str]) -> str:
    """The part of a growing text that stays: without half a character, and without what may become one of the `stops`."""
    text = text.rstrip(_UNFINISHED)
    for stop in stops:
        if (at := text.find(stop)) >= 0:
            text = text[:at]
    most = max((length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length])), default=0)
    return text[: len(text) - most]
