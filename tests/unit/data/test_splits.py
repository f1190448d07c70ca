from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from cpd_engine.data.digests import HASH_BYTES, content_hash, prompt_hash
from cpd_engine.data.records import Row, Turn
from cpd_engine.data.splits import (
    choose,
    count_shared_prompts,
    cut,
    hash_array,
)


def _row(name: str, prompt: str, response: str = "yes") -> Row:
    return Row(name, prompt, "", response, (response,))


ROWS = [_row(str(i), f"prompt {i % 80}", f"answer {i % 90}") for i in range(100)]


def _cut(rows: Sequence[Row], *, fractions: Sequence[float], seed: int) -> list[list[Row]]:
    parts = cut(hash_array(b"".join(prompt_hash(row, seed) for row in rows)), fractions=fractions).tolist()
    return [[row for row, part in zip(rows, parts, strict=True) if part == n] for n in range(len(fractions) + 1)]


def _choose(rows: Sequence[Row], limit: int | None, *, seed: int) -> list[Row]:
    contents = hash_array(b"".join(content_hash(row, seed) for row in rows))
    chosen = choose(contents, limit, id_of=lambda n: rows[n].id).tolist()
    return [row for row, stays in zip(rows, chosen, strict=True) if stays]


def test_fractions_are_met_and_every_row_lands_once() -> None:
    test, validation, train = _cut(ROWS, fractions=[0.1, 0.05], seed=0)
    assert 10 <= len(test) <= 11
    assert 5 <= len(validation) <= 6
    assert sorted(row.id for row in (*test, *validation, *train)) == sorted(row.id for row in ROWS)


@given(st.permutations(ROWS))
def test_the_cut_does_not_depend_on_the_order_of_rows(shuffled: list[Row]) -> None:
    before = [{row.id for row in part} for part in _cut(ROWS, fractions=[0.2, 0.1], seed=3)]
    assert [{row.id for row in part} for part in _cut(shuffled, fractions=[0.2, 0.1], seed=3)] == before


def test_rows_of_one_prompt_stay_together() -> None:
    parts = _cut(ROWS, fractions=[0.3, 0.3], seed=1)
    prompts = [{row.instruction for row in part} for part in parts]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]


def test_another_seed_cuts_elsewhere() -> None:
    assert _cut(ROWS, fractions=[0.2], seed=0)[0] != _cut(ROWS, fractions=[0.2], seed=1)[0]


def test_a_positive_share_of_few_rows_is_at_least_one_and_training_keeps_one() -> None:
    few = [_row(str(i), str(i)) for i in range(3)]
    assert [len(part) for part in _cut(few, fractions=[0.05, 0.05], seed=0)] == [1, 1, 1]
    assert [len(part) for part in _cut(few[:1], fractions=[0.5, 0.5], seed=0)] == [0, 0, 1]


def test_a_share_of_nothing_is_empty() -> None:
    assert _cut(ROWS, fractions=[0.0], seed=0)[0] == []


def test_a_choice_is_the_same_rows_in_whatever_order() -> None:
    kept = _choose(ROWS, 10, seed=0)
    assert len(kept) == 10
    assert {row.id for row in _choose(ROWS[::-1], 10, seed=0)} == {row.id for row in kept}
    assert _choose(ROWS, None, seed=0) == _choose(ROWS, 1000, seed=0) == ROWS


def test_prompts_that_are_trained_on_and_tested_are_counted() -> None:
    train, test = [_row("a", "x"), _row("b", "y")], [_row("c", "y", "no"), _row("d", "z")]
    hashes = [hash_array(b"".join(prompt_hash(row, 0) for row in rows)) for rows in (train, test)]
    assert count_shared_prompts(*hashes) == 1


# The rule as one says it, over rows held in memory and whole hexadecimal hashes: what the arrays above must come to.
SOME_ROWS = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sampled_from(["", "in"]), st.sampled_from("xyz"), st.booleans()),
    max_size=40,
).map(
    lambda told: [
        Row(f"{(7 * n) % 41}", prompt, given_input, answer, (answer,), (Turn("user", prompt),) if talk else ())
        for n, (prompt, given_input, answer, talk) in enumerate(told)
    ]
)


def _told_prompt(row: Row, seed: int) -> str:
    return _told(seed, row.instruction, row.input, *(text for turn in row.turns for text in (turn.role, turn.content)))


def _told(seed: int, *texts: str) -> str:
    raw = [text.encode() for text in texts]
    return hashlib.sha256(str(seed).encode() + b"".join(b"\0%d\0%s" % (len(text), text) for text in raw)).hexdigest()


def _told_cut(rows: Sequence[Row], fractions: Sequence[float], seed: int) -> list[list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_told_prompt(row, seed)].append(row)
    waiting = sorted(groups, reverse=True)
    part_of: dict[str, int] = {}
    for part, fraction in enumerate(fractions):
        taken, share = 0, fraction * len(rows)
        while taken < share and len(waiting) > 1:
            prompt = waiting.pop()
            part_of[prompt] = part
            taken += len(groups[prompt])
    parts: list[list[Row]] = [[] for _ in range(len(fractions) + 1)]
    for row in rows:
        parts[part_of.get(_told_prompt(row, seed), len(fractions))].append(row)
    return parts


def _told_choice(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    def rank(row: Row) -> tuple[str, str]:
        return _told(seed, _told_prompt(row, seed), *row.references), row.id

    chosen = {row.id for row in sorted(rows, key=rank)[:limit]}
    return [row for row in rows if row.id in chosen]


@settings(deadline=None)
@given(SOME_ROWS, st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.25, 1 / 3, 0.5]), max_size=2), st.integers(0, 5))
def test_cutting_by_arrays_of_hashes_is_cutting_row_by_row(rows: list[Row], fractions: list[float], seed: int) -> None:
    assert _cut(rows, fractions=fractions, seed=seed) == _told_cut(rows, fractions, seed)


@settings(deadline=None)
@given(SOME_ROWS, st.integers(1, 40), st.integers(0, 5))
def test_choosing_by_arrays_of_hashes_is_choosing_row_by_row(rows: list[Row], limit: int, seed: int) -> None:
    assert _choose(rows, limit, seed=seed) == _told_choice(rows, limit, seed)


@settings(deadline=None)
@given(SOME_ROWS, st.integers(0, 40))
def test_shared_prompts_counted_by_hashes_are_those_of_the_texts(rows: list[Row], at: int) -> None:
    train, test = rows[:at], rows[at:]
    asked = {(row.instruction, row.input, row.turns) for row in train}
    hashes = [hash_array(b"".join(prompt_hash(row, 1) for row in part)) for part in (train, test)]
    assert count_shared_prompts(*hashes) == sum((row.instruction, row.input, row.turns) in asked for row in test)


def test_a_hash_is_the_head_of_the_one_that_earlier_runs_were_cut_by() -> None:
    row = Row("a", "é", "b", "c", ("c", "d"), (Turn("system", "s"), Turn("user", "u")))
    assert prompt_hash(row, 3).hex() == _told_prompt(row, 3)[: 2 * HASH_BYTES]
    assert content_hash(row, 3).hex() == _told(3, _told_prompt(row, 3), "c", "d")[: 2 * HASH_BYTES]
