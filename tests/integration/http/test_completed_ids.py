"""A shell that asks for ids gets those that the service has, with what each of them is."""

from __future__ import annotations

import sys

import pytest

from api.cli import main
from tests.integration.http.api import COMPARISON, JSONL, ROWS, SPEC, Api


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_ids_of_jobs_data_sets_and_comparisons_are_completed(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {
        "watch": api.owner.post("/v1/jobs", json=SPEC | {"name": "mine"}).json()["id"],
        "datasets delete": api.owner.post(
            "/v1/datasets", params={"name": "mine.jsonl"}, content=ROWS, headers=JSONL
        ).json()["id"],
        "comparisons show": api.owner.post("/v1/comparisons", json=COMPARISON).json()["id"],
    }
    monkeypatch.setattr(sys, "argv", ["cpd"])
    for name, value in {"CPD_URL": api.url, "CPD_API_KEY": api.keys["owner"], "_CPD_COMPLETE": "complete_zsh"}.items():
        monkeypatch.setenv(name, value)
    offered = {}
    for command, made_id in made.items():
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"cpd {command} {made_id[:8]}")
        with pytest.raises(SystemExit):
            main()
        offered[command] = capsys.readouterr().out

    assert all(f'"{made_id}":' in offered[command] for command, made_id in made.items()), offered
    assert f'"{made["watch"]}":"mine queued"' in offered["watch"]
