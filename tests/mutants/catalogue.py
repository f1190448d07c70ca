"""What keeps the promises, each taken out by a patch, and the test that must turn red without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORE, WORKER = "tests/integration/store", "tests/integration/worker"
DISK = "tests/integration/checkpoints"


class PatchDoesNotApply(Exception):
    """The code has moved on: write the patch anew, or the proof is of nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`before` in `file` becomes `after`; `test` (a path, two colons, a function) is then red. `only` narrows its parameters."""

    name: str
    file: str
    before: str
    after: str
    test: str
    only: str = ""

    def applied(self, text: str) -> str:
        """The file's text with the patch. Raises PatchDoesNotApply unless what it takes out is there exactly once."""
        found = text.count(self.before)
        if found != 1:
            raise PatchDoesNotApply(f"{self.name}: {self.file} holds what the patch takes out {found} times, not once")
        return text.replace(self.before, self.after)


MUTANTS = (
    Mutant(
        name="fence",
        file="api/jobs/lease.py",
        before="return Job.id == hold.job_id, Job.fence == hold.fence, Job.state == JobState.RUNNING",
        after="return Job.id == hold.job_id, Job.state == JobState.RUNNING",
        test=f"{STORE}/test_fence.py::test_a_zombie_is_refused_while_another_worker_runs_the_job",
    ),
    Mutant(
        name="fence-of-an-ended-attempt",
        file="api/jobs/lease.py",
        before="return Job.id == hold.job_id, Job.fence == hold.fence, Job.state == JobState.RUNNING",
        after="return Job.id == hold.job_id, Job.fence == hold.fence",
        test=f"{STORE}/test_fence.py::test_an_attempt_that_ended_writes_nothing_more",
    ),
    Mutant(
        name="fence-that-does-not-rise",
        file="api/jobs/transitions.py",
        before="fence=Job.fence + 1,",
        after="fence=Job.fence,",
        test=f"{STORE}/test_machine.py::test_no_sequence_of_workers_people_and_faults_leads_the_store_astray",
        only="sqlite",
    ),
    Mutant(
        name="reaper-hold",
        file="worker/reaper.py",
        before="self._until = at + self._hold_s",
        after="self._until = at",
        test="tests/unit/worker/test_threads.py::test_nothing_is_reaped_for_a_while_after_the_database_was_silent",
    ),
    Mutant(
        name="reaper-hold-under-its-own-look",
        file="worker/reaper.py",
        before="            if not self._patience.answered():\n                session.rollback()\n                return\n",
        after="",
        test=f"{WORKER}/test_reaper.py::test_a_database_that_freezes_under_the_reaper_s_own_look_takes_no_job_from_its_worker",
    ),
    Mutant(
        name="reaper-hold-at-the-start",
        file="worker/reaper.py",
        before="self._until = self._answered_at + silence_s",
        after="self._until = self._answered_at",
        test="tests/unit/worker/test_threads.py::test_a_worker_that_has_just_started_judges_nobody_yet",
    ),
    Mutant(
        name="state-guard",
        file="api/jobs/moves.py",
        before="update(Job).where(*where, Job.state == before)",
        after="update(Job).where(*where)",
        test=f"{STORE}/test_claim.py::test_of_sixteen_workers_that_claim_at_once_exactly_one_gets_the_job",
    ),
    Mutant(
        name="state-guard-of-postgresql",
        file="migrations/versions/2026_11_24_first_tables.py",
        before="for statement in POSTGRESQL_TRIGGER if on_postgresql else SQLITE_TRIGGER:",
        after="for statement in () if on_postgresql else SQLITE_TRIGGER:",
        test=f"{STORE}/test_ends.py::test_the_database_itself_refuses_to_change_a_final_state",
        only="postgres",
    ),
    Mutant(
        name="sync-of-a-checkpoint",
        file="cpd_engine/checkpoint.py",
        before="        _sync_tree(draft)\n",
        after="",
        test=f"{DISK}/test_power_loss.py::test_a_state_that_was_sealed_is_there_and_one_before_it_always",
    ),
    Mutant(
        name="sync-of-its-name",
        file="cpd_engine/checkpoint.py",
        before="    draft.rename(path)\n    sync(path.parent)\n",
        after="    draft.rename(path)\n",
        test=f"{DISK}/test_power_loss.py::test_of_a_directory_that_is_replaced_the_old_or_the_new_is_there",
    ),
    Mutant(
        name="rename",
        file="cpd_engine/checkpoint.py",
        before='    draft = path.with_name(f".{path.name}.draft")\n    discard(draft)\n    try:\n        draft.mkdir(parents=True)\n'
        "        yield draft\n        _write_manifest(draft, provenance or {})\n"
        "        _sync_tree(draft)\n        _put_in_place(draft, path)\n",
        after="    draft = path.with_name(path.name + '-none')\n    try:\n        path.mkdir(parents=True, exist_ok=True)\n"
        "        (path / MANIFEST).unlink(missing_ok=True)\n        yield path\n        _write_manifest(path, provenance or {})\n",
        test=f"{DISK}/test_torn.py::test_sixty_kills_at_any_moment_tear_no_sealed_directory_and_lose_none",
    ),
    Mutant(
        name="sync-of-the-store",
        file="api/core/directory.py",
        before="                os.fsync(file.fileno())\n",
        after="                pass\n",
        test=f"{DISK}/test_power_loss.py::test_a_file_that_the_store_took_is_there_under_its_key",
    ),
    Mutant(
        name="sum-of-what-a-folder-keeps",
        file="api/core/directory.py",
        before='hashlib.file_digest(file, "sha256").hexdigest() != sha256:\n',
        after="False:\n",
        test="tests/integration/files/test_store.py::test_a_file_that_is_not_what_it_was_said_to_be_is_not_kept",
        only="folder",
    ),
    Mutant(
        name="sum-of-what-a-bucket-keeps",
        file="api/core/bucket.py",
        before="            _hold_to(digest, sha256)\n",
        after="",
        test="tests/integration/files/test_bucket.py::test_a_large_file_that_is_not_what_it_was_said_to_be_leaves_no_part",
    ),
    Mutant(
        name="age-of-a-swept-upload",
        file="api/core/s3.py",
        before='if upload["Initiated"] < before]',
        after="]",
        test="tests/unit/test_s3.py::test_an_upload_is_abandoned_that_began_before_the_time_and_no_later_one",
    ),
    Mutant(
        name="bytes-of-an-unanswered-commit",
        file="api/leftovers/service.py",
        before="    except SQLAlchemyError:\n",
        after="    except ZeroDivisionError:\n",
        test="tests/integration/files/test_leftovers.py::test_an_upload_whose_commit_is_not_answered_has_its_bytes_just_where_it_has_its_row",
        only="sqlite",
    ),
    Mutant(
        name="leftover-of-a-deletion",
        file="api/datasets/queries.py",
        before="    leftovers.let_go(session, [key])\n",
        after="",
        test="tests/integration/files/test_leftovers.py::test_what_was_deleted_while_the_bucket_was_away_goes_once_it_is_back",
    ),
    Mutant(
        name="leftover-of-an-upload",
        file="worker/staging.py",
        before="    expect(prefix)\n",
        after="",
        test="tests/integration/files/test_service.py::test_a_worker_killed_under_an_upload_leaves_no_row_of_it_and_another_goes_on",
    ),
    Mutant(
        name="sync-of-the-embedded-database",
        file="api/core/db.py",
        before='"synchronous=FULL"',
        after='"synchronous=NORMAL"',
        test=f"{DISK}/test_power_loss.py::test_a_commit_of_the_embedded_database_is_on_the_disk_when_it_returns",
    ),
    Mutant(
        name="manifest-check",
        file="cpd_engine/checkpoint.py",
        before="            same = hash_file(path, file.path) == file\n",
        after="            same = hash_file(path, file.path).size_bytes == file.size_bytes\n",
        test=f"{DISK}/test_torn.py::test_damage_at_any_place_of_any_file_is_found",
    ),
    Mutant(
        name="watchdog-of-the-engine",
        file="cpd_engine/watchdog.py",
        before="    if os.getsid(0) == os.getpid():\n        os.killpg(0, signal.SIGKILL)\n    os._exit(128 + signal.SIGKILL)\n",
        after="",
        test=f"{WORKER}/test_watchdog.py::test_an_engine_whose_worker_is_gone_is_gone",
    ),
    Mutant(
        name="watchdog-of-the-worker",
        file="worker/child.py",
        before="        stdin=subprocess.PIPE,\n",
        after="        stdin=None,\n",
        test=f"{WORKER}/test_child.py::test_the_engine_dies_with_its_worker_even_while_other_children_live",
    ),
    Mutant(
        name="kill-of-the-group",
        file="worker/child.py",
        before="os.killpg(self.pid, signal.SIGKILL)",
        after="os.kill(self.pid, signal.SIGKILL)",
        test=f"{WORKER}/test_child.py::test_killing_takes_the_whole_group_along",
    ),
    Mutant(
        name="room-on-the-disk",
        file="worker/spool.py",
        before="self.trouble, self._closed = error, True",
        after="self._closed = True",
        test="tests/unit/worker/test_spool.py::test_a_full_disk_is_told_and_ends_the_queue_after_what_it_holds",
    ),
    Mutant(
        name="idempotency-row",
        file="api/jobs/idempotency.py",
        before="    if _take(session, request):\n        return None\n",
        after="    _take(session, request)\n    return None\n",
        test="tests/integration/http/test_jobs.py::test_the_same_key_and_body_give_the_same_job",
        only="sqlite",
    ),
    Mutant(
        name="tenant-of-a-write",
        file="api/jobs/transitions.py",
        before="which = (Job.id == job_id, Job.tenant_id == tenant_id)",
        after="which = (Job.id == job_id,)",
        test=f"{STORE}/test_ends.py::test_another_tenants_job_is_a_missing_one",
    ),
    Mutant(
        name="tenant-of-a-read",
        file="api/jobs/queries.py",
        before="    return _with_places().where(Job.tenant_id == tenant_id)\n",
        after="    return _with_places()\n",
        test="tests/integration/http/test_access.py::test_a_caller_gets_just_what_its_key_is_for",
        only="sqlite",
    ),
    Mutant(
        name="line-sent-twice",
        file="api/events/queries.py",
        before="new = [line for line in lines if line.eseq not in known]",
        after="new = list(lines)",
        test=f"{STORE}/test_events.py::test_a_batch_sent_again_adds_nothing",
        only="sqlite",
    ),
)
