"""Where a run finds what its config only names: files of data sets, folders of models, the hub, a judge; and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STATE_CACHE_BYTES = 64 * 2**30
# The variable that the judge's key comes in: arguments are there for every user of a machine to see.
JUDGE_KEY = "CPD_JUDGE_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeEndpoint:
    """An OpenAI-compatible chat-completions endpoint, named by the operator and never by a job. No repr shows the key.

    `url`: its base, such as https://api.example.com/v1. Prices are per million tokens, in a currency that the operator knows.
    `concurrency`: questions under way at once.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    prompt_price: float | None = None
    completion_price: float | None = None
    concurrency: int = 4

    @property
    def completions_url(self) -> str:
        """Where questions are sent."""
        return f"{self.url.rstrip('/')}/chat/completions"

    def cost_of(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost; None where a price is not known."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Resolved by whoever starts the run: the command line from its arguments, the worker from its staging folder."""

    # Data set id → file. A name that is not here is a path relative to `base`.
    datasets: Mapping[str, Path] = field(default_factory=dict)
    base: Path = Path()
    # A local model is looked up under these folders, in order, and nowhere else.
    model_roots: tuple[Path, ...] = ()
    hub_cache: Path | None = None
    # None: the hub client's own default.
    hub_endpoint: str | None = None
    # Kept states of teachers, shared by all jobs of the machine, and their size at most. None: each run keeps its own, if any.
    state_cache: Path | None = None
    state_cache_bytes: int = STATE_CACHE_BYTES
    # Whether programs that a model writes may be run, in a sandbox; there is no other way to run them.
    code_execution: bool = False
    # None: there is no judge.
    judge: JudgeEndpoint | None = None
