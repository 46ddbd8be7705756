"""Talks to the OpenAI-compatible endpoint, and tells apart replies that are unusable (counted) from an endpoint that is (the run stops)."""

from typing import Any

import httpx2
import openai
from pydantic import ValidationError

from attrloop.components.annotate.cache import Paid
from attrloop.components.annotate.key import read_key
from attrloop.components.annotate.request import Request, completion_limit, price
from attrloop.components.errors import InputError, fail
from attrloop.components.run.config import AnnotateConfig

_EXCERPT = 200  # characters of a reply that are shown


class Annotator:
    """Safe to use from several threads.

    Attributes:
        attempts: HTTP requests made, the SDK's retries included.

    Raises:
        InputError: as `read_key`.
    """

    def __init__(self, config: AnnotateConfig) -> None:
        self.config, self.attempts, self._key = config, 0, read_key(config)
        self._temperature: float | openai.Omit = 0.0
        self._http = httpx2.Client(timeout=config.timeout_s, event_hooks={"request": [self._count]})
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=config.base_url,
            timeout=config.timeout_s,
            max_retries=config.retries,
            http_client=self._http,
        )

    def _count(self, _: httpx2.Request) -> None:
        self.attempts += 1

    def close(self) -> None:
        self._http.close()

    def ask(self, request: Request) -> Paid:
        """Makes a request.

        Returns:
            The reply; with `failed` set when it is unusable (off the list, no JSON, a refusal, truncated, rejected by the server for this listing).

        Raises:
            InputError: the key is refused, the model or address unknown, the quota used up, the endpoint out of reach.
        """
        try:
            raw = self._send(request)
        except openai.APIStatusError as error:
            self._raise_if_hopeless(error)
            return Paid(
                key=request.key,
                listing=request.listing.id,
                failed=f"HTTP {error.status_code}: {self._excerpt(error.message)}",
            )
        except openai.APIConnectionError as error:
            raise self._out_of_reach(error) from error
        return self._paid(request, raw)

    def _send(self, request: Request) -> Any:
        try:
            return self._client.chat.completions.with_raw_response.parse(
                model=self.config.model,
                messages=request.messages,  # type: ignore[arg-type]
                response_format=request.model,
                max_completion_tokens=completion_limit(request.vertical),
                temperature=self._temperature,
            )
        except openai.BadRequestError as error:
            if "temperature" not in error.message or self._temperature is openai.omit:
                raise
            self._temperature = openai.omit  # reasoning models take their own only
            return self._send(request)

    def _raise_if_hopeless(self, error: openai.APIStatusError) -> None:
        # Without the cause, whose text may hold the key.
        where, status = self.config.base_url, error.status_code
        if status in (401, 403):
            raise fail(
                where,
                f"the key is refused (HTTP {status})",
                f"Set the environment variable {self.config.key_env} to a valid key",
            ) from None
        if status == 404:
            what = f"no such address or model {self.config.model!r} (HTTP 404: {self._excerpt(error.message)})"
            raise fail(where, what, "Correct annotate.base_url (it usually ends in /v1) or annotate.model") from None
        if status == 429:
            what = f"still refuses for lack of quota or for too many requests after {self.config.retries} retries ({self._excerpt(error.message)})"
            raise fail(
                where,
                what,
                "Check the account's limits or lower annotate.concurrency, then run again: what was answered is kept",
            ) from None

    def _out_of_reach(self, error: openai.APIConnectionError) -> InputError:
        cause = (
            f"no answer within {self.config.timeout_s:g} s"
            if isinstance(error, openai.APITimeoutError)
            else str(error.__cause__ or error)
        )
        what = f"the endpoint is out of reach after {self.config.retries} retries ({cause})"
        return fail(
            self.config.base_url,
            what,
            "Correct annotate.base_url or start the server, then run again: what was answered is kept",
        )

    def _paid(self, request: Request, raw: Any) -> Paid:
        usage, text = _usage(raw.http_response)
        row = Paid(
            key=request.key,
            listing=request.listing.id,
            prompt_tokens=usage[0],
            completion_tokens=usage[1],
            cost=price(self.config, *usage),
        )
        try:
            message = raw.parse().choices[0].message
            if message.refusal or message.parsed is None:
                return row.model_copy(update={"failed": f"refused or empty: {self._excerpt(message.refusal or text)}"})
            return row.model_copy(update={"answers": request.rows(message.parsed.model_dump(by_alias=True))})
        except openai.LengthFinishReasonError:
            why = f"cut off after {usage[1]} tokens"
        except openai.ContentFilterFinishReasonError:
            why = "stopped by the content filter"
        except ValidationError as error:
            why = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'reply'}: {fault['msg']}" for fault in error.errors()[:3]
            )
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, LookupError) as error:
            why = f"not a chat completion ({type(error).__name__})"  # servers err in any shape, and the SDK with them
        return row.model_copy(update={"failed": f"{why}: {self._excerpt(text)}"})

    def _excerpt(self, text: str) -> str:
        """Of what a server says, without the key that it was sent; a few letters are none, but a word for endpoints that need none."""
        text = " ".join(text.split())
        text = text.replace(self._key, "***") if len(self._key) >= 8 else text
        return text if len(text) <= _EXCERPT else text[:_EXCERPT] + " ..."


def _usage(response: httpx2.Response) -> tuple[tuple[int, int], str]:
    """((prompt tokens, completion tokens), the reply's text or, failing that, the whole body)."""
    try:
        body = response.json()
        usage = body.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        content = ((body.get("choices") or [{}])[0].get("message") or {}).get("content")
        return tokens, content if isinstance(content, str) else response.text
    except (ValueError, AttributeError, TypeError, LookupError):
        return (0, 0), response.text
