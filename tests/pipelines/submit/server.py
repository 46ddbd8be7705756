"""The test backend as a process of its own, with faults that can be switched on through `/control`.

python -m tests.pipelines.submit.server --state state.json --port 0
"""

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from tests.pipelines.submit.backend import API, State, application, problem


def control(app: FastAPI, state: State) -> None:
    @app.post("/control")
    async def settings(request: Request) -> dict[str, Any]:
        """Sets `script`, `faults`, `needs` (a header and its value; without it the answer is 401) or `multi_user`.

        `reset` forgets everything.
        """
        for key, value in (await request.json()).items():
            if key == "reset":
                state.reset()
                state.save()
            else:
                setattr(state, key, value)
        return {}

    @app.get("/control")
    def seen() -> dict[str, Any]:
        return {"requests": state.requests, **state.tables}

    @app.post("/token")
    async def token(request: Request) -> dict[str, Any]:
        """Google's token endpoint: the identity token says for whom it is."""
        assertion = parse_qs((await request.body()).decode())["assertion"][0]
        claims = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
        return {
            "access_token": "access",
            "expires_in": 3600,
            "token_type": "Bearer",
            "id_token": f"identity-for-{claims.get('target_audience')}",
        }


Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Faulty:
    """Lets a fault happen to the requests that it matches, so many times; asks for the headers that are needed."""

    def __init__(self, app: FastAPI, state: State) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API):
            return await self.app(scope, receive, send)
        what = f"{scope['method']} {scope['path'].removeprefix(API)}"
        self.state.requests.append(what)
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        if any(headers.get(name) != value for name, value in self.state.needs.items()):
            return await problem(401, "Unauthenticated")(scope, receive, send)
        fault = next(
            (fault for fault in self.state.faults if re.fullmatch(fault["match"], what) and fault["times"] > 0), None
        )
        if fault is None:
            return await self.app(scope, receive, send)
        fault["times"] -= 1
        await getattr(self, fault["kind"])(fault, scope, receive, send)

    async def status(self, fault: dict[str, Any], scope: Any, receive: Any, send: Send) -> None:
        await problem(fault["status"], "a fault")(scope, receive, send)

    async def empty(self, fault: dict[str, Any], scope: Any, receive: Any, send: Send) -> None:
        await JSONResponse({})(scope, receive, send)

    async def page(self, fault: dict[str, Any], scope: Any, receive: Any, send: Send) -> None:
        await PlainTextResponse("<html>Log in to your account</html>", media_type="text/html")(scope, receive, send)

    async def drop(self, fault: dict[str, Any], scope: Any, receive: Any, send: Send) -> None:
        receive.__self__.transport.abort()

    async def lose(self, fault: dict[str, Any], scope: Any, receive: Any, send: Send) -> None:
        """The request has its effect; the answer never arrives."""

        async def nowhere(message: MutableMapping[str, Any]) -> None:
            pass

        await self.app(scope, receive, nowhere)
        receive.__self__.transport.abort()

    async def slow(self, fault: dict[str, Any], scope: Any, receive: Any, send: Send) -> None:
        tables = self.state.tables
        await asyncio.sleep(fault["seconds"])
        if self.state.tables is tables:  # else the test has ended meanwhile
            await self.app(scope, receive, send)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    threading.Thread(
        target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True
    ).start()  # ends with the process that started it
    state = State(options.state)
    app = application(state)
    control(app, state)
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(Faulty(app, state), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
