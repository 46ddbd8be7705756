"""Times are checked by the rules of the library that Kubeflow reads them with."""

import pytest

from attrloop.components.errors import InputError
from attrloop.pipelines.submit.cron import six_fields


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("0 6 * * 1", "0 0 6 * * 1"),
        ("30 0 6 * * MON-FRI", "30 0 6 * * MON-FRI"),
        (" */15  0-23/2 1,15,31 jan,6-Dec ? ", "0 */15 0-23/2 1,15,31 jan,6-Dec ?"),
        ("59 59 23 31 12 0,6", "59 59 23 31 12 0,6"),
        ("0 5/10 * * * ?/2", "0 5/10 * * * ?/2"),
        ("@daily", "@daily"),
        ("@every 1h30m", "@every 1h30m"),
    ],
)
def test_times_that_can_be_are_sent_with_seconds(given: str, sent: str) -> None:
    assert six_fields(given) == sent


@pytest.mark.parametrize(
    "given", ["", "6 *", "0 6 * * * * *", "mondays", "@weekly-or-so", "@every", "@every day", "@every 1h "]
)
def test_what_is_no_time_at_all_is_refused(given: str) -> None:
    with pytest.raises(InputError, match="five or six fields"):
        six_fields(given)


def test_every_impossible_field_is_named() -> None:
    with pytest.raises(InputError) as caught:
        six_fields("99 25 * * 9")
    assert [problem.what for problem in caught.value.problems] == [
        "'99' is not a valid minute",
        "'25' is not a valid hour",
        "'9' is not a valid weekday",
    ]
    assert "Give 0 to 6 or sun mon" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("60 * * * * *", "second"),
        ("60 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("5-1 * * * *", "minute"),
        ("1-2-3 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("*/x * * * *", "minute"),
        ("1, * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* mon * * *", "hour"),
        ("* * 0 * *", "day"),
        ("* * 32 * *", "day"),
        ("* * L * *", "day"),
        ("* * * 13 *", "month"),
        ("* * * mon *", "month"),
        ("* * * * 7", "weekday"),
        ("* * * * fri-mon", "weekday"),
        ("* * * * 5#2", "weekday"),
        ("0 6 * * ;", "weekday"),
        ("* * * * ٣", "weekday"),
    ],
)
def test_a_field_holds_only_what_it_can(given: str, field: str) -> None:
    with pytest.raises(InputError, match=f"is not a valid {field}. Give"):
        six_fields(given)
