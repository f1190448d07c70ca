"""Scores of free text against accepted answers: ROUGE-L as rouge-score 0.1.2 defines it, and exact match. Both 0..1, higher is better."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from typing import Any

from rouge_score import rouge_scorer

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@cache
def _scorer() -> Any:
    return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure with the Porter stemmer, the best over the references; the prediction is stripped first.

    These are the settings behind the published tables: without the stemmer a mean lies 0.7 to 0.9 points lower.
    Raises ValueError without a reference.
    """
    if not references:
        raise ValueError("rouge_l needs at least one reference")
    return max(float(_scorer().score(reference, prediction.strip())["rougeL"].fmeasure) for reference in references)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 where the prediction equals a reference but for case, ASCII punctuation and white space, else 0.0.

    The normalisation of Super-NaturalInstructions' scorer, on which the published figures rest. Texts of nothing but punctuation
    would all be equal under it; they are compared as they are.
    """
    answer = _normalised(prediction)
    return float(any(answer == _normalised(reference) for reference in references))


def _normalised(text: str) -> str:
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split()) or text.strip()
