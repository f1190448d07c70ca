"""The deployment files, read as Docker would read them: no Docker engine is needed, and none has run them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import SecretStr
from typer.core import TyperGroup

from api.cli import app
from api.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
# One-shot: what depends on it waits for its exit code.
ONE_SHOT = {"migrate"}
OURS = ("migrate", "api", "worker", "worker-gpu")


@dataclass
class Stage:
    """One FROM of the Dockerfile and what follows it, continuation lines joined."""

    name: str
    parent: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        return [rest for word, rest in self.lines if word == instruction]


def read_stages() -> dict[str, Stage]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    joined = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ")
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            current = stages[name] = Stage(name=name, parent=parent)
        elif current is not None:
            current.lines.append((word, " ".join(rest.split())))
    return stages


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def service(name: str) -> dict[str, Any]:
    found = compose()["services"][name]
    assert isinstance(found, dict)
    return found


STAGES = read_stages()


def ancestry(stage: str) -> list[str]:
    """The stage and those it is built on, up to the image from the registry."""
    chain = [stage]
    while chain[-1] in STAGES:
        chain.append(STAGES[chain[-1]].parent)
    return chain


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_copies_only_what_exists(stage: str) -> None:
    for arguments in STAGES[stage].arguments("COPY"):
        *sources, _target = arguments.split()
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in STAGES
            continue
        missing = [source for source in sources if not (ROOT / source).exists()]
        assert not missing, f"{stage} copies {missing}"


def test_the_build_context_holds_what_the_stages_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {
        source
        for stage in STAGES.values()
        for arguments in stage.arguments("COPY")
        if not arguments.startswith("--from=")
        for source in arguments.split()[:-1]
    }

    assert "*" in lines
    assert copied == let_in


@pytest.mark.parametrize("image", ["api", "worker"])
def test_an_image_runs_as_an_ordinary_user_and_is_watched(image: str) -> None:
    assert STAGES[image].arguments("USER") == ["cpd"]
    assert STAGES[image].arguments("HEALTHCHECK")


@pytest.mark.parametrize("image", ["api", "worker"])
def test_an_image_gets_the_versions_that_the_tests_ran_with(image: str) -> None:
    [copied] = [line for line in STAGES[image].arguments("COPY") if line.startswith("--from=")]
    builder = copied.split()[0].removeprefix("--from=")
    installs = [run for stage in ancestry(builder) if stage in STAGES for run in STAGES[stage].arguments("RUN")]
    pips = [run for run in installs if "pip install" in run]

    assert pips
    assert all("--constraint constraints.txt" in run for run in pips)


def test_only_the_worker_image_has_torch() -> None:
    def installs(stage: str) -> str:
        return " ".join(run for name in ancestry(stage) if name in STAGES for run in STAGES[name].arguments("RUN"))

    assert "torch" not in installs("build-api")
    assert "[engine]" not in installs("build-api")
    assert '--index-url "${TORCH_INDEX}" torch' in installs("build-worker")
    assert any(
        arg.startswith("TORCH_INDEX=") and arg.endswith("/cpu") for arg in STAGES["build-worker"].arguments("ARG")
    )
    assert STAGES["api"].arguments("COPY") == ["--from=build-api /opt/cpd /opt/cpd"]
    assert STAGES["worker"].arguments("COPY") == ["--from=build-worker /opt/cpd /opt/cpd"]


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_from_a_stage_that_exists(name: str) -> None:
    build = service(name)["build"]

    assert build["target"] in STAGES
    declared = {argument.partition("=")[0] for stage in STAGES.values() for argument in stage.arguments("ARG")}
    assert set(build.get("args", {})) <= declared


@pytest.mark.parametrize("name", sorted(compose()["services"]))
def test_a_service_has_a_health_check_or_ends_by_itself(name: str) -> None:
    check = service(name)["healthcheck"]

    if name in ONE_SHOT:
        assert check == {"disable": True}
        assert service(name)["restart"] == "no"
        return
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert {"interval", "timeout", "retries"} <= set(check)


def test_ports_are_open_on_loopback_only() -> None:
    published = {name: each.get("ports", []) for name, each in compose()["services"].items()}

    assert published["api"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_a_service_starts_after_what_it_needs() -> None:
    services = compose()["services"]

    for name in ("api", "worker", "worker-gpu"):
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_api_and_worker_share_the_artifacts() -> None:
    data_dir = service("api")["environment"]["CPD_DATA_DIR"]

    for name in ("api", "worker", "worker-gpu"):
        assert f"artifacts:{data_dir}" in service(name)["volumes"]


def test_a_named_volume_is_declared_and_used() -> None:
    used = {
        volume.partition(":")[0]
        for each in compose()["services"].values()
        for volume in each.get("volumes", [])
        if not volume.startswith(("$", ".", "/"))
    }

    assert used == set(compose()["volumes"])


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu"])
def test_a_volume_of_ours_is_mounted_where_the_image_gave_the_user_a_folder(name: str) -> None:
    [owned] = [run for run in STAGES["system"].arguments("RUN") if "install --directory --owner=cpd" in run]
    named = [volume.split(":") for volume in service(name)["volumes"] if not volume.startswith(("$", ".", "/"))]

    assert named
    assert all(target in owned.split() for _volume, target in named)


def test_a_worker_has_time_to_seal_a_checkpoint() -> None:
    grace = Settings.model_fields["cancel_grace_s"].default

    for name in ("worker", "worker-gpu"):
        patience = service(name)["stop_grace_period"]
        assert int(patience.removesuffix("s")) > grace


def test_a_gpu_is_reserved_only_under_its_profile() -> None:
    [device] = service("worker-gpu")["deploy"]["resources"]["reservations"]["devices"]

    assert device["capabilities"] == ["gpu"]
    assert service("worker-gpu")["profiles"] == ["gpu"]
    assert service("worker")["profiles"] == ["cpu"]
    assert "deploy" not in service("worker")


def test_a_password_is_never_written_down_and_never_optional() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    interpolated = re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)([^}]*)\}", text)
    passwords = {name: rest for name, rest in interpolated if name.endswith("PASSWORD")}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert set(passwords) == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert all(rest.startswith(":?") for rest in passwords.values())
    assert all(re.search(rf"^{name}=$", example, re.MULTILINE) for name in passwords)


def test_the_example_names_every_variable_that_compose_reads() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    read = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text))
    example = set(re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))

    # Compose itself reads COMPOSE_PROFILES.
    assert example == read | {"COMPOSE_PROFILES"}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_ours_is_a_setting(name: str) -> None:
    settings = {f"CPD_{each}".upper() for each in Settings.model_fields}

    assert {key for key in service(name)["environment"] if key.startswith("CPD_")} <= settings


@pytest.mark.parametrize("name", OURS)
def test_the_environment_of_a_service_makes_valid_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"POSTGRES_PASSWORD": "a1", "REDIS_PASSWORD": "b2"}
    pattern = re.compile(r"\$\{([A-Z0-9_]+)(?::[-?]([^}]*))?\}")
    for key, value in service(name)["environment"].items():
        monkeypatch.setenv(key, pattern.sub(lambda m: chosen.get(m[1]) or m[2], str(value)))

    settings = Settings()

    assert settings.database_url == "postgresql+psycopg://cpd:a1@postgres:5432/cpd"
    assert settings.broker_url == "redis://:b2@redis:6379/0"
    assert settings.hub_endpoint is None
    assert not isinstance(settings.api_key, SecretStr)


def commands() -> dict[str, list[str]]:
    """Every `cpd …` that an image or a service runs, health checks included."""
    found: dict[str, list[str]] = {}
    for name, stage in STAGES.items():
        for instruction in ("CMD", "HEALTHCHECK"):
            for rest in stage.arguments(instruction):
                found[f"{name} {instruction}"] = json.loads(rest[rest.index("[") :])
    for name in OURS:
        found[f"{name} command"] = service(name).get("command", [])
        found[f"{name} healthcheck"] = service(name)["healthcheck"].get("test", [])[1:]
    return {where: words for where, words in found.items() if words and words[0] == "cpd"}


@pytest.mark.parametrize("where", sorted(commands()))
def test_a_command_is_one_that_cpd_takes(where: str) -> None:
    _, name, *arguments = commands()[where]
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    command = group.commands[name]

    # Parses and checks the arguments; runs nothing.
    with command.make_context(name, arguments):
        pass


def test_every_image_starts_with_a_command_of_ours() -> None:
    assert {"api CMD", "worker CMD", "worker HEALTHCHECK", "migrate command"} <= set(commands())
