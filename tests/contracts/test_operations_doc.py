"""docs/operations.md tells operators what the code does: every setting with its real default, every metric by its real name."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic_core import PydanticUndefined

from api.core.settings import Settings
from api.jobs.states import JobState
from api.metrics import RequestMetrics, Standing, exposition

DOC = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def told_settings() -> dict[str, str]:
    return dict(re.findall(r"^\| `(CPD_[A-Z0-9_]+)` \| (.*?) \|", DOC, re.MULTILINE))


def written(value: object) -> str | None:
    """A default as the table shows it; None where it depends on other settings or on the installation and is told in words."""
    match value:
        case None | ():
            return "unset"
        case float():
            return f"`{value:g}`"
        case tuple():
            return None
        case _:
            return None if value is PydanticUndefined else f"`{value}`"


def test_every_setting_is_told_with_its_default() -> None:
    expected = {f"CPD_{name.upper()}": written(field.default) for name, field in Settings.model_fields.items()}
    told = told_settings()

    assert set(told) == set(expected)
    assert {name: told[name] for name, default in expected.items() if default} == {
        name: default for name, default in expected.items() if default
    }


def test_every_metric_is_told_by_its_name() -> None:
    standing = Standing(jobs={}, workers=0, rung=0, bell_failures=0, followed=0)
    text = exposition(RequestMetrics(), standing).decode()
    exported = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    told = set(re.findall(r"^\| `(cpd_[a-z_]+)` \|", DOC, re.MULTILINE))

    assert told == {name for name in exported if not name.endswith("_created")}


def test_the_alerts_are_made_of_what_is_exported() -> None:
    [text] = re.findall(r"^```yaml\n(groups:.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    rules = yaml.safe_load(text)["groups"][0]["rules"]
    requests = RequestMetrics()
    requests.observe("GET", "/v1/jobs/{job_id}", 503, 0.1)
    standing = Standing(jobs=dict.fromkeys(JobState, 1), workers=1, rung=1, bell_failures=1, followed=1)
    exported = exposition(requests, standing).decode()

    assert len(rules) > 5
    for rule in rules:
        for name, _, labels in re.findall(r"\b(cpd_[a-z_]+)(\{((?:[^}\"]|\"[^\"]*\")*)\})?", rule["expr"]):
            found = [line for line in exported.splitlines() if re.match(rf"{name}[{{ ]", line)]
            assert found, name
            for label, operator, value in re.findall(r'(\w+)(=~?)"([^"]+)"', labels):
                wanted = value if operator == "=~" else re.escape(value)
                assert any(re.search(rf'{label}="{wanted}"', line) for line in found), (name, label, value)


def test_every_variable_that_the_text_mentions_exists() -> None:
    mentioned = set(re.findall(r"\bCPD_[A-Z0-9_]+\b", DOC))

    assert mentioned <= {f"CPD_{name.upper()}" for name in Settings.model_fields}
