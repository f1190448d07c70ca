"""Two scorers' answers and grades of the same rows, held against each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What a scorer heard, and whether it took it for right."""

    text: str
    right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Of `rows`, how many have the same text and the same grade, how many each scorer took for right, and the rows that differ."""

    rows: int
    same_text: int
    same_grade: int
    ours_right: int
    theirs_right: int
    differing: tuple[tuple[str, Row, Row], ...]

    @property
    def agrees(self) -> bool:
        """Whether no row differs, in text or grade."""
        return self.same_text == self.same_grade == self.rows


def compared(ours: Mapping[str, Row], theirs: Mapping[str, Row]) -> Compared:
    """Texts are compared without white space around them, which one of the two keeps. ValueError where the rows are others."""
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(f"the scorers did not meet the same rows: {len(ours)} and {len(theirs)}")
    same_text = {row for row in ours if ours[row].text.strip() == theirs[row].text.strip()}
    same_grade = {row for row in ours if ours[row].right == theirs[row].right}
    return Compared(
        rows=len(ours),
        same_text=len(same_text),
        same_grade=len(same_grade),
        ours_right=sum(row.right for row in ours.values()),
        theirs_right=sum(row.right for row in theirs.values()),
        differing=tuple((row, ours[row], theirs[row]) for row in ours if row not in same_text & same_grade),
    )


def table(found: Compared) -> str:
    """For people."""
    lines = [
        f"same text    {found.same_text} of {found.rows}",
        f"same grade   {found.same_grade} of {found.rows}",
        f"right        {found.ours_right} by cpd, {found.theirs_right} by lm_eval",
    ]
    lines += [f"{row}: cpd {ours} · lm_eval {theirs}" for row, ours, theirs in found.differing]
    return "\n".join(lines) + "\n"
