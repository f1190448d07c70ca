from __future__ import annotations

import pytest

from cpd_engine.quoting import block, code, one_line, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain name, v1.2 (beta)", "a plain name, v1.2 (beta)"),
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)\>"),
        ("[click](javascript:alert(1))", r"\[click\](javascript:alert(1))"),
        ("a | b", r"a \| b"),
        ("**bold** `code` ~~gone~~", r"\*\*bold\*\* \`code\` \~\~gone\~\~"),
        ("back\\slash &lt;b&gt;", r"back\\slash \&lt;b\&gt;"),
        ("see https://evil.example or WWW.evil.example", r"see https\://evil.example or WWW\.evil.example"),
        ("first\n\n# second\x00\u2028third", r"first \# second third"),
        ("ab\u202ecd\u200b", "abcd"),
    ],
)
def test_what_markdown_would_read_as_more_stays_text(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("text", "span"),
    [("rows.jsonl", "`rows.jsonl`"), ("a`b", "``a`b``"), ("`a`", "`` `a` ``"), ("", "`  `"), ("a\nb", "`a b`")],
)
def test_a_code_span_ends_where_it_was_meant_to(text: str, span: str) -> None:
    assert code(text) == span


def test_a_block_of_code_is_not_left_by_a_fence_inside() -> None:
    assert block("a\n````\n<b>", "text") == "`````text\na\n````\n<b>\n`````"


def test_one_line_is_one_line() -> None:
    assert one_line(" a\r\nb\tc ") == "a b c"
