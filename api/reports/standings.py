"""The tables of a comparison: every member by its scores on the test rows and on suites, held against the baseline. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from api.quantities import count, p_value
from api.reports.blocks import Block, Bullets, Paragraph, Picture, Section, Strong, Table, Words
from api.reports.words import LOWER_IS_BETTER, MODELS, heading, percent, signed, signed_span, span, value
from cpd_engine.events import Compared, ComparedMember, MemberScore, SuiteMember

Member = ComparedMember | SuiteMember
_ENDS = ("teacher", "untouched")
_HOW = (
    "Intervals: 95 %; over rows by bootstrap of the test rows, each averaged over the seeds, over seeds by Student's t. p: two-sided "
    "Wilcoxon signed-rank test of the paired rows, adjusted by Holm for all members that are held against the baseline."
)


def section(table: Compared, pictures: Sequence[Picture]) -> Section:
    """A table a score, of the test rows first, and what there is to know of them."""
    names = list(next((member.scores for member in table.members if member.scores), {}))
    blocks: list[Block] = [*pictures]
    for name in names:
        arrow = ", less is better" if name in LOWER_IS_BETTER else ""
        told = f" on {count(table.rows)} test rows"
        blocks += [
            Paragraph(words=(Strong(f"{heading(name)}{arrow}"), told)),
            _scores(table.members, table.baseline, name),
        ]
    for suite in table.suites:
        asked = f"under {count(len(suite.seeds))} seeds" if suite.seeds else "greedily"
        told = f" on {count(suite.rows)} rows of the suite {suite.suite}, answered {asked}"
        for name in suite.metrics:
            blocks += [Paragraph(words=(Strong(heading(name)), told)), _scores(suite.members, table.baseline, name)]
    blocks.append(Paragraph(quiet=True, words=_HOW))
    if table.notes:
        blocks.append(Bullets(items=list(table.notes)))
    return Section(title="Which was better?", anchor="outcome", blocks=blocks)


def _scores(members: Sequence[Member], baseline: str, name: str) -> Table:
    rows: list[list[Words]] = []
    strong = set()
    for member in members:
        score = member.scores.get(name)
        if score is None:
            continue
        if member.label == baseline:
            strong.add(len(rows))
        rows.append([member.label, *_scored(score, name), *_against(member, score, baseline, name)])
    for end in _ENDS:
        values = {getattr(member, end).get(name) for member in members if member.scores}
        # Of several students or teachers none speaks for all.
        if len(values) == 1:
            rows.append([MODELS[end], value(values.pop(), name), "", "", "", "", "", ""])
    head = ["Member", "Mean", "Over rows", "Over seeds", "Less baseline", "95 % interval", "p (Holm)", "Lead won"]
    return Table(head=head, rows=rows, strong=frozenset(strong))


def _scored(score: MemberScore, name: str) -> list[str]:
    return [value(score.mean, name), span(score.row_interval, name), span(score.seed_interval, name) or "–"]


def _against(member: Member, score: MemberScore, baseline: str, name: str) -> list[str]:
    found = member.against.get(name)
    won = "–" if score.gap_closed is None else percent(score.gap_closed)
    if found is None:
        return ["baseline" if member.label == baseline else "–", "", "", won]
    return [signed(found.difference, name), signed_span(found.interval, name), p_value(found.p_holm), won]
