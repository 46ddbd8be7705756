"""The stand-in annotator as a process, asked through the real SDK."""

import base64
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image
from pydantic import BaseModel

from attrloop.components.annotate.request import answer_model
from attrloop.components.catalogue.schema import Vertical
from attrloop.components.errors import AttrloopError
from attrloop.pipelines.demo.stand_in import serving
from attrloop.pipelines.demo.world import FAMILIES, VERTICALS, values_of


def reply_model(vertical: str, attributes: tuple[str, ...] | None = None) -> type[BaseModel]:
    return answer_model(
        Vertical.model_validate(
            {"attributes": {a: {"values": values_of(vertical, a)} for a in attributes or VERTICALS[vertical]}}
        )
    )


def jpeg(path: Path) -> str:
    buffer = io.BytesIO()
    Image.open(path).save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def ask(url: str, model: type[BaseModel], *pictures: str) -> openai.types.chat.ParsedChatCompletion:
    parts: Any = [
        {"type": "text", "text": "What is it?"},
        *({"type": "image_url", "image_url": {"url": picture}} for picture in pictures),
    ]
    client = openai.OpenAI(api_key="any", base_url=url, max_retries=0)
    return client.chat.completions.parse(
        model="demo-annotator", messages=[{"role": "user", "content": parts}], response_format=model
    )


def answers(url: str, folder: Path, listings: list[dict]) -> dict[str, dict]:
    return {
        row["id"]: ask(url, reply_model(row["vertical"]), jpeg(folder / row["images"][0]))
        .choices[0]
        .message.parsed.model_dump(by_alias=True)
        for row in listings
    }


def truth_of(rows: list[dict]) -> dict[str, dict[str, str]]:
    truth: dict[str, dict[str, str]] = {}
    for row in rows:
        truth.setdefault(row["listing"], {})[row["attribute"]] = row["value"]
    return truth


def test_without_errors_it_answers_the_truth_and_names_evidence_of_it(rendered, rows_of):
    truth = truth_of(rows_of(rendered / "truth.jsonl"))
    with serving(rendered, error_rate=0) as url:
        found = answers(url, rendered, rows_of(rendered / "listings.jsonl"))
    assert {listing: {a: entry["value"] for a, entry in reply.items()} for listing, reply in found.items()} == truth
    for reply in found.values():
        for attribute, entry in reply.items():
            assert (
                entry["rationale"].removeprefix("I see ").removesuffix(".")
                in FAMILIES[attribute].evidence[entry["value"]]
            )


def test_it_errs_at_about_the_stated_rate_and_the_same_way_each_time(rendered, rows_of):
    truth = truth_of(rows_of(rendered / "truth.jsonl"))
    rounds = []
    for _ in range(2):
        with serving(rendered, error_rate=0.4, seed=7) as url:
            rounds.append(answers(url, rendered, rows_of(rendered / "listings.jsonl")))
    assert rounds[0] == rounds[1]
    wrong = [entry["value"] != truth[listing][a] for listing, reply in rounds[0].items() for a, entry in reply.items()]
    assert 0.2 < sum(wrong) / len(wrong) < 0.6
    for listing, reply in rounds[0].items():
        assert all(
            entry["value"] in values_of(listing.rsplit("-", 1)[0], attribute) for attribute, entry in reply.items()
        )


def test_it_answers_only_what_the_reply_schema_asks_and_counts_tokens(rendered, rows_of):
    row = rows_of(rendered / "listings.jsonl")[0]
    only = VERTICALS[row["vertical"]][1]
    with serving(rendered) as url:
        reply = ask(url, reply_model(row["vertical"], (only,)), *(jpeg(rendered / name) for name in row["images"]))
    assert list(reply.choices[0].message.parsed.model_dump(by_alias=True)) == [only]
    assert reply.usage.prompt_tokens > 170 and reply.usage.completion_tokens > 8


def test_it_refuses_a_picture_that_it_does_not_know_and_rejects_a_body_without_one(rendered, tmp_path):
    Image.effect_noise((64, 64), 250).convert("RGB").save(tmp_path / "noise.png")
    with serving(rendered) as url:
        assert ask(url, reply_model("mug"), jpeg(tmp_path / "noise.png")).choices[0].message.refusal
        with pytest.raises(openai.BadRequestError, match="no picture"):
            ask(url, reply_model("mug"))
        assert [model.id for model in openai.OpenAI(api_key="any", base_url=url).models.list()] == ["demo-annotator"]
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/models", trust_env=False)


def test_a_folder_that_is_no_catalogue_is_an_error(tmp_path):
    with pytest.raises(AttrloopError, match="did not start"), serving(tmp_path):
        pass


def test_it_ends_when_the_process_that_started_it_is_killed(rendered):
    script = (
        "import sys, time, pathlib; from attrloop.pipelines.demo.stand_in import serving\n"
        "with serving(pathlib.Path(sys.argv[1])) as url:\n    print(url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(rendered)], stdout=subprocess.PIPE, text=True) as parent:
        url = parent.stdout.readline().strip()
        assert httpx2.get(f"{url}/models", trust_env=False).status_code == 200
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx2.get(f"{url}/models", trust_env=False, timeout=2)
        except httpx2.TransportError:
            return
        time.sleep(0.1)
    pytest.fail("the annotator outlived the process that started it")
