"""Nothing runs where bubblewrap is missing, does not start, or leaves one way out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpd_engine.errors import SandboxUnavailable, StopRequested
from cpd_engine.evaluation.confinement import Confinement
from cpd_engine.evaluation.examination import Examined, Limits, Suite, examined
from cpd_engine.evaluation.sandbox import Sandbox
from cpd_engine.evaluation.trial import require_confined
from tests.sandboxed import asserting, open_or_skip

MEMORY = 2**29


def unconfined(program: str, examination: Mapping[str, Any]) -> Examined:
    """What an examination finds where nothing at all confines the program: it runs here. The trial's probes only look."""
    names: dict[str, Any] = {}
    exec(program, names)
    try:
        exec("\n".join(examination["base"]), names)
    except AssertionError:
        return Examined(suites={"base": Suite(tests=1, failed=1, reason="wrong answer")})
    return Examined(suites={"base": Suite(tests=1, failed=0, reason=None)})


def shown() -> list[Path]:
    """What a sandbox shows of this machine, which the trial does not complain of."""
    return [inside for _, inside in Confinement.of_this_python(Path("bwrap")).binds]


def leaking(
    sandbox: Sandbox, probe: str, leak: Callable[[str, Mapping[str, Any]], Examined]
) -> Callable[..., Examined]:
    """The sandbox, but for the probe that gets through the leak."""

    def examine(program: str, examination: Mapping[str, Any]) -> Examined:
        return (leak if examination["names"] == [probe] else sandbox.examine)(program, examination)

    return examine


@pytest.mark.parametrize(
    ("probe", "trouble"),
    [
        ("reaches", "the network can be reached"),
        ("sees", "files of this machine can be seen"),
        ("knows", "the environment can be read"),
    ],
)
def test_a_sandbox_with_one_way_out_is_refused(sandbox: Sandbox, probe: str, trouble: str) -> None:
    with pytest.raises(SandboxUnavailable, match=trouble):
        require_confined(leaking(sandbox, probe, unconfined), memory_bytes=MEMORY, visible=shown())


def test_a_sandbox_without_limits_is_refused(sandbox: Sandbox) -> None:
    loose = open_or_skip(Limits(memory_bytes=4 * MEMORY, wall_s=30.0))

    with pytest.raises(SandboxUnavailable, match="memory is not limited"):
        require_confined(leaking(sandbox, "allocates", loose.examine), memory_bytes=MEMORY, visible=shown())


def test_processes_without_a_limit_are_refused() -> None:
    with pytest.raises(SandboxUnavailable, match="processes are not limited"):
        open_or_raise(Limits(processes=100, wall_s=30.0))


def open_or_raise(limits: Limits) -> None:
    open_or_skip()
    Sandbox.open(limits=limits)


def test_a_sandbox_in_which_nothing_runs_is_refused(sandbox: Sandbox) -> None:
    silent = replace(sandbox.limits, memory_bytes=2**20)

    with pytest.raises(SandboxUnavailable):
        Sandbox.open(limits=silent)


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SandboxUnavailable, match="install the package bubblewrap") as refused:
        Sandbox.open()
    assert refused.value.code == "sandbox_unavailable"


@pytest.mark.parametrize(
    "text", ["", "no program", "#!/bin/sh\nexit 0\n", "#!/bin/sh\necho 'no permissions' >&2; exit 1\n"]
)
def test_a_bubblewrap_that_does_not_start_is_refused(tmp_path: Path, text: str) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(text, "utf-8")
    fake.chmod(0o755)

    with pytest.raises(SandboxUnavailable, match=r"does not start|cannot be started"):
        Sandbox.open(bwrap=fake)


def test_an_examination_that_is_to_stop_stops(sandbox: Sandbox) -> None:
    asked = threading.Event()

    def stop_at_the_second_time() -> bool:
        before = asked.is_set()
        asked.set()
        return before

    with pytest.raises(StopRequested):
        sandbox.examine("while True: pass", asserting("assert f()"), should_stop=stop_at_the_second_time)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"passed",
        b'{"nonce": "b", "suites": {"base": {"tests": 1, "failed": 0, "reason": null}}, "unusable": null}',
        b'{"nonce": "a", "suites": {"base": {"tests": 1}}, "unusable": null}',
        b'{"nonce": "a", "suites": null, "unusable": null}',
        b'["a"]',
    ],
)
def test_a_verdict_without_its_nonce_or_form_is_none(said: bytes) -> None:
    assert examined(said, "a") == Examined(suites={}, cut_off=True)
    assert not examined(said, "a").passed


def test_a_suite_without_tests_is_not_passed() -> None:
    assert not Examined(suites={"base": Suite(tests=0, failed=0, reason=None)}).passed
    assert not Examined(suites={}).passed
