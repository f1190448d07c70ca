from __future__ import annotations

from pathlib import Path

import pytest

from cpd_engine.models.licences import stated_licence


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: apache-2.0", "apache-2.0"),
        ("license: other\nlicense_name: llama3.2", "other (llama3.2)"),
        ("license: [mit, cc-by-4.0]", "mit, cc-by-4.0"),
        ("tags: [a]\nlicense: 'two\n  words'\n", "two words"),
        ("license_name: a name without a licence", None),
        ("license: 3", None),
        ("license: ''", None),
        ("license: [", None),
        ("- a list", None),
        ("tags: [a]", None),
    ],
)
def test_a_licence_is_what_the_front_matter_says_and_nothing_else(
    front: str, licence: str | None, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n\nlicense: gpl-3.0\n")

    assert stated_licence(tmp_path) == licence


@pytest.mark.parametrize(
    "text", ["# A model under the MIT licence\n", "\n---\nlicense: mit\n---\n", "---\nlicense: mit\n", ""]
)
def test_a_readme_without_front_matter_states_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)

    assert stated_licence(tmp_path) is None


def test_a_folder_without_a_readme_states_none(tmp_path: Path) -> None:
    assert stated_licence(tmp_path) is None


def test_line_ends_of_another_system_and_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\n\xff\xfe")

    assert stated_licence(tmp_path) == "mit"


def test_a_licence_as_long_as_a_book_is_cut_short(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: {'x' * 5000}\n---\n")

    assert stated_licence(tmp_path) == "x" * 120
