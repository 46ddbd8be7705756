"""A schedule is made once, left alone when it is as wanted, and replaced when it is not."""

from dataclasses import replace
from typing import Any

import pytest

from attrloop.components.errors import AttrloopError
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.submit.submission import Wanted
from attrloop.pipelines.submit.submit import schedule
from tests.pipelines.submit.conftest import Server, options


def test_the_official_client_reads_what_was_made(
    server: Server, wanted: Wanted, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule(replace(wanted, settings={"loop.iterations": "1"}), server.destination(run_as="trainer"), "0 6 * * 1")
    made = server.official().get_recurring_run(capsys.readouterr().out.splitlines()[-1])
    assert made.display_name == "mugs" and made.status == "ENABLED" and made.service_account == "trainer"
    assert made.trigger.cron_schedule.cron == "0 0 6 * * 1" and made.max_concurrency == "1" and made.no_catchup
    version = server.official().get_pipeline_version(
        made.pipeline_version_reference.pipeline_id, made.pipeline_version_reference.pipeline_version_id
    )
    assert (
        version.display_name.startswith("abc123-")
        and made.runtime_config.parameters["overrides"] == '{"loop.iterations": 1}'
    )


def test_the_same_again_changes_nothing_even_with_new_data(server: Server, wanted: Wanted, bucket: str) -> None:
    schedule(wanted, server.destination(), "0 6 * * 1")
    before = server.rows("recurring_runs")
    open_store(bucket).write("shop/listings.jsonl", b"")
    schedule(replace(wanted, data="day-2"), server.destination(), "0 0 6 * * 1")
    assert server.rows("recurring_runs") == before


@pytest.mark.parametrize("change", ["cron", "settings", "revision", "run_as"])
def test_another_content_replaces_the_schedule(
    server: Server, wanted: Wanted, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule(wanted, server.destination(), "0 6 * * 1", "weekly")
    (before,) = server.rows("recurring_runs")
    kinds: dict[str, dict[str, Any]] = {
        "settings": {"settings": {"seed": "2"}},
        "revision": {"revision": "def456"},
    }
    cron, run_as = ("0 7 * * 1" if change == "cron" else "0 6 * * 1"), ("other" if change == "run_as" else "")
    schedule(replace(wanted, **kinds.get(change, {})), server.destination(run_as=run_as), cron, "weekly")
    (after,) = server.rows("recurring_runs")
    assert after["recurring_run_id"] != before["recurring_run_id"] and "replaced" in capsys.readouterr().out
    requests = server.seen()["requests"]
    assert requests.index(f"DELETE /recurringruns/{before['recurring_run_id']}") > max(
        k for k, what in enumerate(requests) if what == "POST /recurringruns"
    )


def test_schedules_of_another_name_are_left_alone(server: Server, wanted: Wanted) -> None:
    schedule(wanted, server.destination(), "0 6 * * 1", "weekly")
    schedule(wanted, server.destination(), "0 6 1 * *", "monthly")
    assert {row["display_name"] for row in server.rows("recurring_runs")} == {"weekly", "monthly"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["drop", "lose", "status"])
@pytest.mark.parametrize("match", ["POST /recurringruns", "GET /recurringruns", "DELETE .*"])
def test_a_passing_fault_leaves_one_schedule(server: Server, wanted: Wanted, kind: str, match: str) -> None:
    schedule(wanted, server.destination(), "0 6 * * 1")
    server.fault(kind, match, **({"status": 503} if kind == "status" else {}))
    schedule(wanted, server.destination(), "0 7 * * 1")
    assert [row["trigger"]["cron_schedule"]["cron"] for row in server.rows("recurring_runs")] == ["0 0 7 * * 1"]


def test_from_the_command_line(server: Server, wanted: Wanted) -> None:
    done = server.attrloop("schedule", *options(wanted), "--cron", "0 6 * * 1", "--name", "weekly")
    out, err = done.communicate(timeout=60)
    (made,) = server.rows("recurring_runs")
    assert done.returncode == 0, err
    assert out.splitlines()[-1] == made["recurring_run_id"] and made["display_name"] == "weekly"
    wrong = server.attrloop("schedule", *options(wanted), "--cron", "mondays")
    assert wrong.communicate(timeout=60)[1].startswith("1 problem found") and wrong.returncode == 1


def test_a_schedule_that_the_server_does_not_take_is_explained(server: Server, wanted: Wanted) -> None:
    server.fault("status", "POST /recurringruns", status=400)
    with pytest.raises(AttrloopError, match="refused to make the recurring run: 400 Bad Request: a fault"):
        schedule(wanted, server.destination(), "@daily")
    assert server.rows("recurring_runs") == []
