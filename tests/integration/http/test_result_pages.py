"""Pages of results, comparisons, data sets and the form of a job, over HTTP: useful without scripts, and text stays text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cpd_engine.events import SuspiciousSample, to_json
from tests.backends import Backend
from tests.integration.http.api import ROWS, Api, serving
from tests.integration.http.browsing import Browser, browser
from tests.integration.http.test_figures import compared
from tests.integration.http.test_results import PROFILE, sample
from tests.unit.web import figure_values as values

CANARY = "<script>document.title='run'</script>"
FORM = {"teacher": "tiny:gpt2", "student": "from-teacher:1", "advanced": "dataset: {synthetic: {rows: 1200}}"}


def answers(**exact: float) -> dict[str, Any]:
    """A row of the test split with what each model scored."""
    told = sample(1)["answers"]["student"]
    return sample(1) | {
        "row": "-".join(f"{subject}{value:g}" for subject, value in exact.items()),
        "prompt": CANARY,
        "answers": {subject: told | {"exact_match": value} for subject, value in exact.items()},
    }


def finished(api: Api) -> str:
    """A job with profile, report and answers; its texts are hostile."""
    job_id = api.submit(name=CANARY)
    hold = api.claim(job_id)
    suspicious = SuspiciousSample(id="row-7", student_ce=5.0, teacher_ce=4.0, prompt=CANARY, response="54")
    api.say(
        hold,
        ("profile_ready", json.loads(to_json(values.profile(prompt=CANARY, suspicious=(suspicious,))))),
        ("reported", json.loads(to_json(values.report(suites=1)))),
    )
    rows = [
        answers(untouched=0.0, student=1.0),
        answers(untouched=1.0, student=0.0),
        answers(untouched=1.0, student=1.0),
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    api.seal(hold, "report", {"manifest.json": b"{}", "samples.jsonl": lines}, role="phase")
    api.succeed(hold)
    return job_id


def test_results_are_read_without_a_script_and_nothing_in_them_is_markup(api: Api) -> None:
    job_id = finished(api)
    with browser(api, "reader") as visitor:
        pages = {part: visitor.http.get(f"/jobs/{job_id}/{part}").text for part in ("difficulty", "quality", "answers")}

    assert all(CANARY not in text and "&lt;script&gt;" in text for text in pages.values())
    # The first cut, a suspicious sample, the ends; a score with its interval, answers that changed; who said what.
    assert ">25<" in pages["difficulty"].replace(" ", "")
    assert "row-7" in pages["difficulty"]
    assert "Hardest 20" in pages["difficulty"]
    for shown in ("25.0 to 85.0", "Wrong → right", "suite-0", "30 of 100"):
        assert shown in pages["quality"]
    assert "untouched student" in pages["answers"]


def test_answers_to_pinned_rows_are_shown_as_they_change_and_before_there_is_a_report(api: Api) -> None:
    hold = api.claim(api.submit())
    scored = {"subject": "student", "split": "validation", "rows": 5, "metrics": {"rouge_l": 1.0}}
    pinned = {"row": "row-1", "prompt": "Name a <b>colour</b>", "reference": "red"}
    for epoch, said in ((2, "grue"), (1, "zzz"), (4, "green")):
        answers = [pinned | {"answer": said}]
        api.say(hold, ("evaluated", scored | {"epoch": epoch, "step": 10 * epoch, "answers": answers}), at=epoch)
    with browser(api, "reader") as visitor:
        text = visitor.http.get(f"/jobs/{hold.job_id}/answers").text
        elsewhere = visitor.http.get(f"/jobs/{hold.job_id}/answers?changed=gained").text

    order = [
        text.index(said)
        for said in ("Name a &lt;b&gt;colour", "After epoch 1", "zzz", "grue", "After epoch 4", "green")
    ]
    assert order == sorted(order)
    assert "come with the report" in text
    assert "As it learned" not in elsewhere


def test_before_there_is_anything_to_show_pages_say_so(api: Api) -> None:
    job_id = api.submit()
    with browser(api, "reader") as visitor:
        for part in ("difficulty", "quality", "answers"):
            answer = visitor.http.get(f"/jobs/{job_id}/{part}")
            assert (answer.status_code, "Not there yet" in answer.text) == (200, True), part


def test_where_the_teacher_was_not_asked_nothing_is_called_suspicious(api: Api) -> None:
    hold = api.claim(api.submit())
    api.say(hold, ("profile_ready", PROFILE))
    with browser(api, "reader") as visitor:
        text = visitor.http.get(f"/jobs/{hold.job_id}/difficulty").text

    assert "The teacher was not asked here" in text


@pytest.mark.parametrize(("changed", "row"), [("gained", "untouched0-student1"), ("lost", "untouched1-student0")])
def test_answers_are_told_by_what_distillation_did_to_them(api: Api, changed: str, row: str) -> None:
    job_id = finished(api)
    found = api.reader.get(f"/v1/jobs/{job_id}/samples", params={"changed": changed}).json()
    with browser(api, "reader") as visitor:
        text = visitor.http.get(f"/jobs/{job_id}/answers", params={"changed": changed}).text

    assert [one["row"] for one in found["data"]] == [row]
    assert text.count('class="sample"') == 1
    assert row in text
    assert api.reader.get(f"/v1/jobs/{job_id}/samples", params={"changed": "?"}).status_code == 422


def test_a_figure_is_json_for_its_script_and_numbers_for_a_reader(api: Api) -> None:
    job_id = finished(api)
    with browser(api, "reader") as visitor:
        drawn = visitor.http.get(f"/jobs/{job_id}/figures/profile")
        told = visitor.http.get(f"/jobs/{job_id}/figures/profile", params={"as": "table"}).text
        waiting = visitor.http.get(f"/jobs/{api.submit()}/figures/profile")

    assert drawn.json() == api.reader.get(f"/v1/jobs/{job_id}/figures/profile").json()
    assert waiting.status_code == 204
    assert "cut k of an epoch" in told
    assert "subset of epoch" not in told
    assert "<td>25</td>" in told


def test_a_comparison_is_listed_and_shown_with_its_table(api: Api) -> None:
    comparison_id = compared(api)
    with browser(api, "owner") as visitor:
        listed = visitor.http.get("/comparisons").text
        shown = visitor.http.get(f"/comparisons/{comparison_id}").text
        figure = visitor.http.get(f"/comparisons/{comparison_id}/figures/tradeoff", params={"as": "table"}).text

    assert f"/comparisons/{comparison_id}" in listed
    assert "4 of 4" in listed
    assert "35.0*" in shown
    assert "+5.0, p .040" in shown
    assert "1234567" in figure


def test_a_running_comparison_is_cancelled_from_its_page(api: Api) -> None:
    comparison_id = api.compare()
    with browser(api, "owner") as visitor:
        assert "Cancel all its jobs" in visitor.http.get(f"/comparisons/{comparison_id}").text
        answer = visitor.submit(f"/comparisons/{comparison_id}/cancel")

    assert (answer.status_code, answer.headers["location"]) == (303, f"/comparisons/{comparison_id}")
    assert api.comparison(comparison_id)["state"] == "cancelled"


def upload(visitor: Browser, name: str, content: bytes) -> Any:
    return visitor.submit("/datasets", files={"file": (name, content)})


def test_rows_are_uploaded_looked_at_and_deleted(api: Api) -> None:
    with browser(api, "owner") as visitor:
        made = upload(visitor, f"../{CANARY}.jsonl", ROWS + b'{"instruction": "x"}\n')
        address = made.headers["location"]
        shown = visitor.http.get(address).text
        listed = visitor.http.get("/datasets").text
        gone = visitor.submit(f"{address}/delete")
        after = visitor.http.get(address)

    assert made.status_code == 303
    assert CANARY not in shown + listed
    assert "missing_field" in shown
    assert "Contradictions" in shown
    assert (gone.headers["location"], after.status_code) == ("/datasets", 404)


def test_rows_come_as_csv_and_as_an_array_as_well(api: Api) -> None:
    table = b"instruction,output\n" + b"".join(b"Add 1 and %d.,%d\n" % (i, i + 1) for i in range(20))
    array = b"[" + b",".join(ROWS.strip().split(b"\n")) + b"]"
    with browser(api, "owner") as visitor:
        made = [upload(visitor, name, content) for name, content in (("r.CSV", table), ("r.json", array))]

    rows = [api.owner.get(f"/v1{one.headers['location']}").json()["rows"] for one in made]
    assert rows == [20, 200]


@pytest.mark.parametrize(
    ("name", "content", "status", "told"),
    [
        ("rows.jsonl", b'{"instruction": "x"}\n', 422, "missing_field"),
        ("rows.exe", ROWS, 415, "ends in .jsonl, .json or .csv"),
        ("rows.jsonl", b"x" * 300_000, 413, "at most"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    api: Api, name: str, content: bytes, status: int, told: str
) -> None:
    with browser(api, "owner") as visitor:
        answer = upload(visitor, name, content)

    assert answer.status_code == status
    assert told in answer.text
    assert api.owner.get("/v1/datasets").json()["data"] == []
    assert not list((api.resources.settings.scratch_dir / "uploads").glob("*"))


def test_an_upload_from_another_site_or_without_the_page_s_token_is_refused(api: Api) -> None:
    with browser(api, "owner") as visitor:
        bare = visitor.http.post("/datasets", files={"file": ("r.jsonl", ROWS)})
        foreign = visitor.http.post(
            "/datasets",
            data={"form_token": visitor.form_token},
            files={"file": ("r.jsonl", ROWS)},
            headers={"sec-fetch-site": "cross-site"},
        )

    assert (bare.status_code, foreign.status_code) == (403, 403)
    assert api.owner.get("/v1/datasets").json()["data"] == []


def test_a_plan_is_shown_before_anything_is_queued(backend: Backend) -> None:
    with (
        serving(backend.with_settings(gpu_hour_price=2.5, currency="EUR")) as api,
        browser(api, "owner") as visitor,
    ):
        shown = visitor.submit("/submit", FORM | {"preset": "paper", "action": "plan"}).text
        jobs = api.owner.get("/v1/jobs").json()["data"]

    assert jobs == []
    for told in ("Optimizer steps", "EUR", "at 2.50 an hour of a GPU", "dead_epoch", "Start the job"):
        assert told in shown


@pytest.mark.parametrize(("action", "kind"), [("submit", "distillation"), ("probe", "probe")])
def test_a_form_sent_twice_makes_one_job(api: Api, action: str, kind: str) -> None:
    with browser(api, "owner") as visitor:
        sent = FORM | {"name": CANARY, "action": action, "once": "1"}
        first, again = visitor.submit("/submit", sent), visitor.submit("/submit", sent)
        other = visitor.submit("/submit", sent | {"once": "2"})
    job_id = first.headers["location"].removeprefix("/jobs/")
    job = api.owner.get(f"/v1/jobs/{job_id}").json()

    assert again.headers["location"] == first.headers["location"] != other.headers["location"]
    assert (job["kind"], job["spec"]["name"]) == (kind, CANARY)


def test_what_is_wrong_is_told_at_its_field_and_nothing_that_was_written_is_lost(api: Api) -> None:
    with browser(api, "owner") as visitor:
        answer = visitor.submit("/submit", FORM | {"name": CANARY, "epochs": "many", "action": "submit"})
        missing = visitor.submit("/submit", FORM | {"advanced": "", "train": "ds_00000000", "action": "plan"})

    assert answer.status_code == 422
    assert 'id="epochs-problem"' in answer.text
    assert 'value="many"' in answer.text
    assert CANARY not in answer.text
    assert "synthetic: {rows: 1200}" in answer.text
    assert 'id="train-problem"' in missing.text
    assert api.owner.get("/v1/jobs").json()["data"] == []


def test_the_form_is_filled_in_from_a_job_and_from_a_data_set(api: Api) -> None:
    dataset_id = api.upload()
    job_id = api.submit(name=CANARY, dataset={"train": dataset_id}, optimizer={"batch_size": 16})
    with browser(api, "owner") as visitor, browser(api, "other") as stranger:
        cloned = visitor.http.get("/submit", params={"clone": job_id}).text
        trained = visitor.http.get("/submit", params={"train": dataset_id}).text
        foreign = stranger.http.get("/submit", params={"clone": job_id}).status_code

    assert 'value="from-teacher:1"' in cloned
    assert "batch_size: 16" in cloned
    assert f'<option value="{dataset_id}" selected>' in cloned
    assert f'<option value="{dataset_id}" selected>' in trained
    assert CANARY not in cloned
    assert foreign == 404


def test_a_page_of_changed_rows_ends_after_so_many_rows_and_leads_on(api: Api) -> None:
    hold = api.claim(api.submit())
    rows = [answers(untouched=1.0, student=1.0)] * 2500 + [answers(untouched=0.0, student=1.0)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    api.seal(hold, "report", {"manifest.json": b"{}", "samples.jsonl": lines}, role="phase")
    address = f"/v1/jobs/{hold.job_id}/samples"
    first = api.reader.get(address, params={"changed": "gained"}).json()
    second = api.reader.get(address, params={"changed": "gained", "cursor": first["next_cursor"]}).json()

    assert (first["data"], first["has_more"]) == ([], True)
    assert ([one["row"] for one in second["data"]], second["has_more"]) == (["untouched0-student1"], False)


def test_a_report_without_intervals_is_shown_all_the_same(api: Api) -> None:
    hold = api.claim(api.submit())
    api.say(hold, ("reported", json.loads(to_json(replace(values.report(), intervals={})))))
    with browser(api, "reader") as visitor:
        answer = visitor.http.get(f"/jobs/{hold.job_id}/quality")

    assert answer.status_code == 200
    assert "25.0 to 85.0" not in answer.text
