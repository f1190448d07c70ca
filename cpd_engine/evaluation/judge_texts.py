"""What a judge is asked about two answers, and what its answer says. Pure. Fig. 6, after FastChat's `pair-v2`."""

from __future__ import annotations

import re
from typing import Literal

Letter = Literal["A", "B", "C"]

SYSTEM = (
    "Please act as an impartial judge and evaluate the quality of the responses provided by two AI assistants to the user question "
    "displayed below. You should choose the assistant that follows the user's instructions and answers the user's question better. "
    "Your evaluation should consider factors such as the helpfulness, relevance, accuracy, depth, creativity, and level of detail of "
    "their responses. Begin your evaluation by comparing the two responses and provide a short explanation. Avoid any position biases "
    "and ensure that the order in which the responses were presented does not influence your decision. Do not allow the length of the "
    "responses to influence your evaluation. Do not favor certain names of the assistants. Be as objective as possible. After "
    'providing your explanation, output your final verdict by strictly following this format: "[[A]]" if assistant A is better, '
    '"[[B]]" if assistant B is better, and "[[C]]" for a tie.'
)
QUESTION = (
    "### User Question:\n{question}\n\n"
    "[The Start of Assistant A's Answer]\n{answer_a}\n[The End of Assistant A's Answer]\n\n"
    "[The Start of Assistant B's Answer]\n{answer_b}\n[The End of Assistant B's Answer]"
)
_VERDICT = re.compile(r"\[\[([ABC])\]\]")


def messages(question: str, answer_a: str, answer_b: str) -> list[dict[str, str]]:
    """The conversation that asks for a verdict: the system's section of Fig. 6, and the user's."""
    asked = QUESTION.format(question=question, answer_a=answer_a, answer_b=answer_b)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]


def letter(text: str) -> Letter | None:
    """The first of [[A]], [[B]] and [[C]] in a judge's answer; None where there is none, which is no verdict."""
    found = _VERDICT.search(text)
    return None if found is None else found[1]  # type: ignore[return-value]  # the pattern has these three only
