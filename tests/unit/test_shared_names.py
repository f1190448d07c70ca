"""Under which names jobs of one machine leave and find their work: another for whatever would have made it otherwise."""

from __future__ import annotations

from importlib.metadata import version

from cpd_engine.stages.sharing import makers, name_of

PARTS = {"model": "a", "samples": "b", "numerics": ["cpu", "1 threads", "2.13.0"]}


def test_engine_grader_stemmer_and_tokenizers_have_their_versions_in_every_name() -> None:
    assert makers() == {name: version(name) for name in ("cpd", "rouge-score", "nltk", "tokenizers")}
    known = name_of("student_attempts", PARTS, makers())
    assert name_of("student_attempts", dict(reversed(PARTS.items())), makers()) == known
    for name in makers():
        assert name_of("student_attempts", PARTS, makers() | {name: "0.0.1"}) != known


def test_every_part_and_the_kind_of_work_make_another_name() -> None:
    known = name_of("teacher_answers", PARTS, makers())
    assert known.startswith("answers-")
    assert name_of("untouched_answers", PARTS, makers()) != known
    for part in PARTS:
        assert name_of("teacher_answers", PARTS | {part: "another"}, makers()) != known
