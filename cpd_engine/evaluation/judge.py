"""An LLM as a judge: win rate of one model's answers against another's, by pairwise comparison in both orders. Paper A.4.4, Fig. 6."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cpd_engine.errors import JudgeUnavailable, StopRequested
from cpd_engine.evaluation.judge_client import JudgeClient, Patience, Said, Unanswered, connected
from cpd_engine.evaluation.judge_journal import Entry, Journal
from cpd_engine.evaluation.judge_texts import letter, messages
from cpd_engine.inputs import JudgeEndpoint

Outcome = Literal["win", "tie", "loss"]

_TICK_S = 0.1
# So many questions in a row without an answer, each asked several times, and there is no judge.
_GIVE_UP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two answers to one question: `ours`, which is judged, and `theirs`, which it is judged against."""

    id: str
    question: str
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """How to ask. `both_orders`: each pair twice; otherwise once, half of them with `ours` second, by the hash of the id."""

    temperature: float = 0.7
    max_tokens: int = 2048
    both_orders: bool = True
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A pair's outcome for `ours`, None with `error` where there is none: "no_verdict", or why no answer came (judge_client)."""

    pair: str
    outcome: Outcome | None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All pairs in order, and what they cost. `disagreements`: of the ties, those in which the two orders differed.

    `win_rate`: (wins + ties/2) / valid in percent, None where no pair has an outcome. Tokens and `cost` (in the currency of the prices;
    None without prices) are of every answer that counts here, those from an earlier attempt (`reused`) included.
    """

    pairs: tuple[Judged, ...]
    disagreements: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    answers: int
    reused: int
    errors: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """How many pairs came out so."""
        return sum(pair.outcome == outcome for pair in self.pairs)

    @property
    def valid(self) -> int:
        """Pairs with an outcome."""
        return sum(pair.outcome is not None for pair in self.pairs)

    @property
    def win_rate(self) -> float | None:
        """(wins + ties/2) / valid × 100; a judge that always says A gives 50.0 in both orders."""
        return 100.0 * (self.count("win") + self.count("tie") / 2) / self.valid if self.valid else None


def judge(
    pairs: Sequence[Pair],
    *,
    endpoint: JudgeEndpoint,
    settings: JudgeSettings,
    journal: Path,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> Judgement:
    """Ask about every pair. Answers are appended to `journal` (JSON lines) as they come; those that it has are not asked for again.

    Raises StopRequested, with what came in the journal; JudgeUnavailable where the endpoint refuses or answers no more. Blocks, in
    an event loop of its own.
    """
    asked = {pair.id: _questions(pair, endpoint.model, settings) for pair in pairs}
    if len(asked) != len(pairs):
        raise ValueError("pairs need ids of their own")
    questions = [question for each in asked.values() for question in each]
    with Journal(journal) as kept:
        reused = sum(question.key in kept.entries for question in questions)
        failed = asyncio.run(_ask_all(questions, kept, endpoint, settings, on_progress, should_stop))
        entries = kept.entries
    outcomes = [_outcome(each, entries, failed) for each in asked.values()]
    answers = [entries[question.key] for question in questions if question.key in entries]
    prompt_tokens = sum(answer.prompt_tokens for answer in answers)
    completion_tokens = sum(answer.completion_tokens for answer in answers)
    return Judgement(
        pairs=tuple(judged for judged, _ in outcomes),
        disagreements=sum(disagreed for _, disagreed in outcomes),
        errors=dict(Counter(judged.error for judged, _ in outcomes if judged.error is not None)),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost=endpoint.cost_of(prompt_tokens, completion_tokens),
        answers=len(answers),
        reused=reused,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A pair in one order. `key`: hash of all that is asked, by which an answer is found again."""

    pair: str
    ours_first: bool
    body: dict[str, Any]
    key: str


def _questions(pair: Pair, model: str, settings: JudgeSettings) -> list[_Question]:
    orders = (True, False) if settings.both_orders else (hashlib.sha256(pair.id.encode()).digest()[0] % 2 == 0,)
    return [_question(pair, ours_first, model, settings) for ours_first in orders]


def _question(pair: Pair, ours_first: bool, model: str, settings: JudgeSettings) -> _Question:
    answers = (pair.ours, pair.theirs) if ours_first else (pair.theirs, pair.ours)
    body = {
        "model": model,
        "messages": messages(pair.question, *answers),
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }
    whole = json.dumps([pair.id, ours_first, body], sort_keys=True)
    return _Question(pair=pair.id, ours_first=ours_first, body=body, key=hashlib.sha256(whole.encode()).hexdigest())


async def _ask_all(
    questions: Sequence[_Question],
    journal: Journal,
    endpoint: JudgeEndpoint,
    settings: JudgeSettings,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> dict[str, str]:
    """Ask what the journal does not know; why no answer came, by key."""
    open_questions = iter([question for question in questions if question.key not in journal.entries])
    failed: dict[str, str] = {}
    silent = 0

    async def work(client: JudgeClient) -> None:
        nonlocal silent
        for question in open_questions:
            try:
                said = await client.ask(question.body)
            except Unanswered as failure:
                failed[question.key] = failure.reason
                silent += 1
                if silent >= _GIVE_UP:
                    raise JudgeUnavailable(
                        f"the judge does not answer ({failure.reason}); what it said is kept"
                    ) from None
            else:
                silent = 0
                journal.add(_entry(question, said))

    async with connected(endpoint, settings.patience, connections=endpoint.concurrency) as client:
        tasks = [asyncio.ensure_future(work(client)) for _ in range(endpoint.concurrency)]

        def look() -> None:
            on_progress(sum(q.key in journal.entries or q.key in failed for q in questions), len(questions))
            if should_stop():
                raise StopRequested

        await _all_of(tasks, look)
    return failed


async def _all_of(tasks: Sequence[asyncio.Future[None]], look: Callable[[], None]) -> None:
    """Wait for the tasks and `look` now and then; what either raises ends them all."""
    try:
        working = set(tasks)
        while working:
            done, working = await asyncio.wait(working, timeout=_TICK_S, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
            look()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _entry(question: _Question, said: Said) -> Entry:
    return Entry(
        key=question.key,
        pair=question.pair,
        ours_first=question.ours_first,
        letter=letter(said.text),
        text=said.text,
        prompt_tokens=said.prompt_tokens,
        completion_tokens=said.completion_tokens,
    )


def _outcome(
    questions: Sequence[_Question], entries: Mapping[str, Entry], failed: Mapping[str, str]
) -> tuple[Judged, bool]:
    """What became of one pair, and whether its two orders disagreed, which makes it a tie."""
    votes: list[Outcome] = []
    for question in questions:
        entry = entries.get(question.key)
        if entry is None or entry.letter is None:
            error = failed[question.key] if entry is None else "no_verdict"
            return Judged(pair=question.pair, outcome=None, error=error), False
        votes.append(
            "tie" if entry.letter == "C" else "win" if (entry.letter == "A") is question.ours_first else "loss"
        )
    agreed = len(set(votes)) == 1
    return Judged(pair=questions[0].pair, outcome=votes[0] if agreed else "tie"), not agreed
