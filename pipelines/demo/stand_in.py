"""The demo's stand-in for a large model: an OpenAI-compatible endpoint on loopback that knows the rendered products.

It finds the picture that it is sent among the catalogue's (the nearest in pixels), says what a person would see there,
and is wrong at a stated rate. It knows the truth of the demo's catalogue and nothing else. It does not imitate any
real annotator.

    python -m attrloop.pipelines.demo.stand_in --catalogue DIR --port 0 --error-rate 0.05 --seed 0
"""

import argparse
import base64
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

from attrloop.components.catalogue.schema import SEPARATOR
from attrloop.components.digests import digest
from attrloop.components.errors import AttrloopError, fail
from attrloop.pipelines.demo.world import FAMILIES

MODEL = "demo-annotator"
_SIDE = 16  # pictures are compared at this size: noise and JPEG artefacts average out, products do not
_STRANGE = 20.0  # root mean squared difference, in grey levels, above which a picture is not the catalogue's


class StandIn:
    """Answers from pixels.

    Args:
        catalogue: folder with `listings.jsonl`, its images, and `truth.jsonl` (rows of `listing`, `attribute`,
            `value`).
        error_rate: fraction of wrong answers, in [0, 1]. A wrong answer is another allowed value.
        seed: decides, together with the listing, which answers are wrong.

    Raises:
        InputError: a file is missing.
    """

    def __init__(self, catalogue: Path, error_rate: float = 0.05, seed: int = 0) -> None:
        self.error_rate, self.seed = error_rate, seed
        self._truth: dict[str, dict[str, str]] = defaultdict(dict)
        for row in _rows(catalogue / "truth.jsonl"):
            self._truth[row["listing"]][row["attribute"]] = row["value"]
        names = [(row["id"], catalogue / name) for row in _rows(catalogue / "listings.jsonl") for name in row["images"]]
        self._listings = [listing for listing, _ in names]
        self._pixels = np.stack([_small(path.read_bytes()) for _, path in names])
        self._norms = (self._pixels**2).sum(axis=1)

    def recognise(self, pictures: list[bytes]) -> str | None:
        """The id of the listing that most of the encoded pictures show; None when they show none of the catalogue's."""
        votes = Counter(listing for picture in pictures if (listing := self._nearest(_small(picture))) is not None)
        return votes.most_common(1)[0][0] if votes else None

    def _nearest(self, pixels: np.ndarray) -> str | None:
        distances = self._norms - 2 * self._pixels @ pixels + (pixels**2).sum()
        best = int(distances.argmin())
        return self._listings[best] if (max(float(distances[best]), 0) / pixels.size) ** 0.5 <= _STRANGE else None

    def answer(self, pictures: list[bytes], schema: dict[str, Any]) -> dict[str, Any] | None:
        """A reply that follows the JSON schema of the request; None when the pictures or the attributes are unknown."""
        listing = self.recognise(pictures)
        if listing is None or not set(schema["properties"]) <= set(self._truth[listing]):
            return None
        return {name: self._one(listing, name, resolve(entry, schema)) for name, entry in schema["properties"].items()}

    def _one(self, listing: str, attribute: str, entry: dict[str, Any]) -> dict[str, Any]:
        wanted = resolve(entry["properties"]["value"], entry)
        many = wanted.get("type") == "array"
        allowed = allowed_values(wanted["items"] if many else wanted)
        values = self._truth[listing][attribute].split(SEPARATOR) if many else [self._truth[listing][attribute]]
        if self._chance(listing, attribute, "errs") < self.error_rate:
            wrong = [value for value in allowed if value not in values] or allowed
            values = [wrong[int(self._chance(listing, attribute, "how") * len(wrong))]]
        seen = " and ".join(self._phrase(listing, attribute, value) for value in values)
        return {"rationale": f"I see {seen}.", "value": values if many else values[0]}

    def _phrase(self, listing: str, attribute: str, value: str) -> str:
        phrases = FAMILIES[attribute].evidence.get(value, (value,)) if attribute in FAMILIES else (value,)
        return phrases[int(self._chance(listing, attribute, "phrase") * len(phrases))]

    def _chance(self, *what: str) -> float:
        """A number in [0, 1) that depends on the seed and `what` only."""
        return int(digest(self.seed, *what), 16) / 16**16


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise fail(str(path), "no such file", "Give --catalogue the folder of a rendered catalogue")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _small(data: bytes) -> np.ndarray:
    """float32 of shape [_SIDE * _SIDE * 3], 0 to 255."""
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32).reshape(-1)


def resolve(entry: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """An entry of a JSON schema with its `$ref`, if it has one, replaced. The result keeps `$defs`."""
    for reference in [entry.get("$ref"), *(part.get("$ref") for part in entry.get("allOf", []))]:
        if reference:
            entry = root["$defs"][reference.removeprefix("#/$defs/")]
    return {"$defs": root.get("$defs", {}), **entry}


def allowed_values(entry: dict[str, Any]) -> list[str]:
    """The values that an entry of a JSON schema allows."""
    return list(entry["enum"]) if "enum" in entry else [entry["const"]]


def completion(stand_in: StandIn, body: dict[str, Any]) -> dict[str, Any]:
    """A chat completion for the body of a request.

    Raises:
        LookupError: the body has no JSON schema for the reply.
        ValueError: it has no picture.
    """
    schema = body["response_format"]["json_schema"]["schema"]
    parts = [
        part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    pictures = [
        base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts if part["type"] == "image_url"
    ]
    if not pictures:
        raise ValueError("no picture")
    answers = stand_in.answer(pictures, schema)
    content = None if answers is None else json.dumps(answers)
    text = "".join(part.get("text", "") for part in parts) + json.dumps(schema)
    usage = {"prompt_tokens": len(text) // 4 + 85 * len(pictures), "completion_tokens": len(content or "") // 4 + 8}
    message = {
        "role": "assistant",
        "content": content,
        "refusal": "I do not know this product." if content is None else None,
    }
    return {
        "id": "chatcmpl-" + digest(body["messages"]),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", MODEL),
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}],
        "usage": usage | {"total_tokens": sum(usage.values())},
    }


def application(stand_in: StandIn) -> Any:
    """The endpoint as an ASGI application."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "attrloop"}]}

    @app.post("/v1/chat/completions")
    def complete(body: dict[str, Any]) -> Any:
        try:
            return completion(stand_in, body)
        except (LookupError, ValueError, TypeError, OSError) as error:
            return JSONResponse(
                {"error": {"message": f"{type(error).__name__}: {error}", "type": "invalid_request_error"}},
                status_code=400,
            )

    return app


@contextmanager
def serving(catalogue: Path, error_rate: float = 0.05, seed: int = 0, wait_s: float = 60) -> Generator[str]:
    """Runs the stand-in annotator as a process of its own and yields its base URL.

    The process ends with the block, or with this process if that is killed.

    Raises:
        AttrloopError: it did not start within `wait_s` seconds.
    """
    options = {"--catalogue": catalogue, "--port": 0, "--error-rate": error_rate, "--seed": seed}
    command = [
        sys.executable,
        "-m",
        __spec__.name,
        "--until-stdin-closes",
        *(str(part) for pair in options.items() for part in pair),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        killer = threading.Timer(wait_s, process.kill)
        killer.start()
        try:
            url = process.stdout.readline().strip()
            if not url or httpx2.get(f"{url}/models", timeout=wait_s, trust_env=False).status_code != 200:
                raise AttrloopError(f"The stand-in annotator of {catalogue} did not start; its own message is above")
            killer.cancel()
            yield url
        finally:
            killer.cancel()
            process.stdin.close()
            process.terminate()


def main() -> None:
    """The command: serves one catalogue until it is stopped, and prints the URL on its first line."""
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--catalogue", type=Path, required=True, help="folder with listings.jsonl, its images and truth.jsonl"
    )
    parser.add_argument("--port", type=int, default=0, help="0 for any free one; the first line printed is the URL")
    parser.add_argument("--error-rate", type=float, default=0.05, help="fraction of wrong answers, in [0, 1]")
    parser.add_argument("--seed", type=int, default=0, help="decides which answers are wrong")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end when the process that started this one does"
    )
    options = parser.parse_args()
    try:
        app = application(StandIn(options.catalogue, options.error_rate, options.seed))
    except AttrloopError as error:
        sys.exit(str(error))
    if options.until_stdin_closes:
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
