"""A thousand calls to an endpoint with mixed faults: the cap holds, each listing is labelled once, nothing hangs."""

import json
import resource
import time
from collections import Counter

import pytest

from attrloop.components.annotate.annotate import annotate
from attrloop.components.errors import InputError
from tests.components.annotate.shop import answer, chat, labels_of, report_of

SETTINGS = {
    "train_per_vertical": 300,
    "validation_per_vertical": 0,
    "test_per_vertical": 0,
    "retries": 2,
    "timeout_s": 1.0,
    "max_failed": 0.5,
    "max_cost": 2.2,
}
USAGES = [
    None,
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": -(10**6), "completion_tokens": -5},
    {"prompt_tokens": "1500", "completion_tokens": "many"},
    {"prompt_tokens": 1e300, "completion_tokens": 1},
    {
        "prompt_tokens": 1500,
        "completion_tokens": 120,
        "completion_tokens_details": {"reasoning_tokens": 400},
        "total_tokens": 2020,
    },
]


def fault(body: dict, number: int) -> tuple[int, str, dict[str, str]] | None:
    """What the endpoint does at its n-th request. Every tenth is a fault, and every usage is wrong."""
    reply = json.loads(chat(json.dumps(answer(body)))) | {"usage": USAGES[number % len(USAGES)]}
    right = json.dumps(reply)
    match number % 70:
        case 10:
            return 503, "{}", {"Retry-After": "0.01"}
        case 20:
            return 429, "{}", {"Retry-After": "0.01"}
        case 30:
            return 200, right[: len(right) // 2], {}
        case 40:
            return 200, chat("rubbish"), {}
        case 50:
            return 200, right, {"Content-Length": str(len(right) + 99), "Connection": "close"}
        case 60:
            return 500, "{}", {"Retry-After": "0.01"}
        case 0:
            time.sleep(1.5)
    return 200, right, {}


@pytest.mark.slow
def test_a_thousand_calls_under_mixed_faults(shop, endpoint):
    shop.write(900)
    path = shop.folder / "listings.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"title": f"Number {k}"}) + "\n" for k, row in enumerate(rows)))
    endpoint.behave = fault
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    uri, runs = shop.workspace(**SETTINGS), 0
    for train in (300, 300, 520, 520):
        runs += 1
        try:
            annotate(shop.workspace(**SETTINGS | {"train_per_vertical": train}))
        except InputError:  # an endpoint that stays down for all retries; the next run goes on
            continue
    labels = labels_of(uri)
    count = Counter((label["listing"], label["attribute"]) for label in labels)
    assert max(count.values()) == 1 and len(endpoint.bodies) >= 1000
    assert report_of(uri)["cost"] <= SETTINGS["max_cost"]
    assert time.monotonic() - began < 300
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"
    print(
        f"{len(endpoint.bodies)} requests, {runs} runs, {len(labels)} labels, {report_of(uri)['cost']:.4f} US dollars, "
        f"{time.monotonic() - began:.0f} s"
    )
