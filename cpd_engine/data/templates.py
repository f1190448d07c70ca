"""Rendering the chat template of a tokenizer: a program that came with a model, so it gets only so much time, memory and text.

Jinja's sandbox, in which transformers renders, keeps a template from Python's own objects, and not from looping for ever.
"""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from cpd_engine.errors import ConfigInvalid

Turn = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one rendering. `extra_characters` may be said beyond twice the turns' own: room for a system prompt that comes with a template."""

    seconds: float = 10.0
    memory_bytes: int = 2**30
    extra_characters: int = 1_000_000


class TemplateTooSlow(BaseException):
    """The rendering was interrupted. No Exception, which Jinja takes for a sum that it cannot do in advance."""


def rendered(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[Turn],
    *,
    add_generation_prompt: bool,
    limits: Limits = Limits(),
) -> str:
    """The turns in the tokenizer's own chat template. ConfigInvalid where it has none, refuses them, or does not keep to its limits."""
    try:
        with _limited(limits):
            text = tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=add_generation_prompt
            )
    except (TemplateTooSlow, MemoryError, RecursionError, OverflowError) as error:
        raise ConfigInvalid(
            f"template: the tokenizer's chat template takes more than {limits.seconds:g} s or {limits.memory_bytes >> 20} MiB for one "
            f"prompt ({type(error).__name__}); use template: paper",
            field="template",
        ) from error
    except (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, TemplateError) as error:
        raise ConfigInvalid(
            f"template: chat does not work with this tokenizer ({error}); use template: paper", field="template"
        ) from error
    if len(text) > limits.extra_characters + 2 * sum(len(turn["content"]) for turn in turns):
        raise ConfigInvalid(
            f"template: the tokenizer's chat template makes {len(text)} characters of one prompt; use template: paper",
            field="template",
        )
    return str(text)


@contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """A clock and a limit on memory, of this whole process and above what it has, until the block ends.

    The clock needs the main thread, in which the engine encodes; elsewhere there is none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _address_space_bytes() + limits.memory_bytes
    present = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    on_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGALRM, _interrupt) if on_main_thread else None
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *present]), hard))
    try:
        if on_main_thread:
            signal.setitimer(signal.ITIMER_REAL, limits.seconds)
        yield
    finally:
        if on_main_thread:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise TemplateTooSlow


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    return pages * resource.getpagesize()
