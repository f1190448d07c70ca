"""What an operator may set."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from api.core.settings import Settings


def test_everything_lies_in_the_data_folder_by_default(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/cpd.sqlite3"
    assert settings.scratch_dir == tmp_path / "scratch"
    assert settings.broker_url == "filesystem://"
    assert {settings.broker_dir.parent, settings.store_dir.parent, settings.key_file.parent} == {tmp_path}


def test_the_environment_sets_what_it_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CPD_DATABASE_URL", "postgresql+psycopg://cpd:pw@db/cpd")
    monkeypatch.setenv("CPD_BROKER_URL", "rediss://broker:6379/1")
    monkeypatch.setenv("CPD_MODEL_ROOTS", "/models:/more models")
    monkeypatch.setenv("CPD_LEASE_S", "1.5")
    settings = Settings()
    assert settings.model_roots == (Path("/models"), Path("/more models"))
    assert settings.lease_s == 1.5
    assert settings.broker_url == "rediss://broker:6379/1"


@pytest.mark.parametrize("url", ["sqla+sqlite:///x", "memory://", "amqp://guest@localhost//", "sqs://", "redis:", ""])
def test_brokers_that_lose_or_double_work_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="filesystem:// or redis://"):
        Settings(broker_url=url)


@pytest.mark.parametrize(
    "url",
    ["postgresql://h/d", "postgresql+psycopg2://h/d", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "nonsense", ""],
)
def test_databases_that_are_not_tested_are_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"sqlite:///FILE or postgresql\+psycopg://"):
        Settings(database_url=url)


def test_a_refusal_and_the_settings_themselves_show_no_password() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(database_url="mysql://cpd:hunter2@db/cpd")
    shown = repr(Settings(database_url="postgresql+psycopg://cpd:hunter2@db/cpd", broker_url="redis://:hunter2@b/0"))
    assert "hunter2" not in str(refused.value) + shown


def test_programs_are_not_run_and_nobody_judges_by_default(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert (settings.code_execution, settings.judge_url, settings.judge_model) == ("off", None, None)
    with pytest.raises(ValidationError, match="code_execution"):
        Settings(data_dir=tmp_path, code_execution="yes")


@pytest.mark.parametrize(
    "url",
    [
        "judge.example.com",
        "ftp://judge/v1",
        "https://",
        "https://me:hunter2@judge/v1",
        "https://judge/v1?key=hunter2",
        "file:///v1",
    ],
)
def test_a_judge_is_an_address_without_a_secret_in_it(url: str) -> None:
    with pytest.raises(ValidationError, match="CPD_JUDGE_URL must be") as refused:
        Settings(judge_url=url, judge_model="m")
    assert "hunter2" not in str(refused.value)


def test_a_judge_has_a_model_and_a_key_that_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="set together"):
        Settings(judge_url="https://judge/v1")
    monkeypatch.setenv("CPD_JUDGE_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setenv("CPD_JUDGE_MODEL", "judge-1")
    monkeypatch.setenv("CPD_JUDGE_API_KEY", "hunter2")
    monkeypatch.setenv("CPD_JUDGE_PROMPT_PRICE", "")
    settings = Settings()
    assert settings.judge_api_key is not None
    assert settings.judge_api_key.get_secret_value() == "hunter2"
    assert settings.judge_prompt_price is None
    assert "hunter2" not in repr(settings)


def test_settings_never_change(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]  # the point of the test
