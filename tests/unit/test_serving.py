"""What of a growing answer may be shown, and that orders and answers survive the pipe."""

from __future__ import annotations

import pytest

from cpd_engine.conversation import Ask, Message, Order, Said, line, read_order, read_said
from cpd_engine.serving import settled


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("one tw", (), "one tw"),
        ("gr\N{REPLACEMENT CHARACTER}", (), "gr"),
        ("a\N{REPLACEMENT CHARACTER}b", (), "a\N{REPLACEMENT CHARACTER}b"),
        ("one\n", ("\n\n",), "one"),
        ("one\n\ntwo", ("\n\n",), "one"),
        ("one\nt", ("\n\n",), "one\nt"),
        ("it is END", ("STOP", "ENDING"), "it is "),
        ("it is STO", ("STOP", "O"), "it is "),
    ],
)
def test_only_what_no_later_token_takes_back_is_shown(text: str, stops: tuple[str, ...], shown: str) -> None:
    assert settled(text, stops) == shown


def test_what_goes_over_the_pipe_arrives_as_it_was() -> None:
    ask = Ask(messages=(Message(role="user", content="größer\n世界"),), max_tokens=3, stop=("a", "b"), seed=2**63 - 1)
    for order in (Order(id="x", ask=ask), Order(id="x")):
        assert line(order).count(b"\n") == 1
        assert read_order(line(order)) == order
    said = Said(id="x", text="a\nb", finish_reason="stop", prompt_tokens=1, completion_tokens=2)
    assert read_said(line(said)) == said
