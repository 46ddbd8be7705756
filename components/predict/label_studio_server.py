"""Projects on a Label Studio server, by its official SDK: tasks go there, and finished answers come back.

The server and the token are named by LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY. A personal access token and a legacy
token both do. Needs the extra `review`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attrloop.components.catalogue.schema import load_schema
from attrloop.components.documents import read_json
from attrloop.components.errors import AttrloopError, Problem, fail
from attrloop.components.predict.exports import Asked, tasks_of
from attrloop.components.predict.interface import ANSWER
from attrloop.components.predict.label_studio import Imported, add, check_labels_output, labels_of
from attrloop.components.predict.labelling import PROJECTS, Project
from attrloop.components.run.config import RunConfig
from attrloop.components.secrets import masked, reveals, secret

URL, KEY = "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"
_TIMEOUT_S = 60.0  # without any byte
_BATCH = 50  # tasks of one request; each may hold photographs
_TITLE = 50  # characters that a project's title may have
_SHOWN = 300  # characters of what the server says

_Client = Any  # label_studio_sdk.client.LabelStudio, whose own types are incomplete


@dataclass(frozen=True)
class Pushed:
    """What a push did to one project.

    Attributes:
        title: of the project.
        url: its page.
        added: new tasks.
        present: tasks that were there already.
    """

    title: str
    url: str
    added: int
    present: int


def push(made: dict[str, Project], name: str) -> list[Pushed]:
    """Adds tasks to the projects of a name, which it makes where they are missing.

    A task for a listing and attribute that the project asks about already is left out, so that a push can be repeated.

    Args:
        made: the projects, see `labelling.projects`.
        name: that the titles begin with.

    Raises:
        InputError: a missing or wrong setting, a name that is too long, or a project with another labelling interface.
        AttrloopError: the server cannot be reached, or refuses.
    """
    titles = {kind: _title(name, kind) for kind in PROJECTS.values()}
    done = []
    with _connected() as (client, url):
        for kind, project in made.items():
            number = _find(client, url, titles[kind])
            if number is None:
                number = client.projects.create(title=titles[kind], label_config=project.page).id
            elif f'name="{ANSWER}"' not in (client.projects.get(id=number).label_config or ""):
                what = f"the project {titles[kind]!r} has a labelling interface without {ANSWER!r}"
                raise fail(f"{url}/projects/{number}", what, "Give another name with --project")
            there = _asked_about(client, number)
            new = [task for task in project.tasks if _key(task["data"]) not in there]
            # Not repeated by the SDK: the server may have taken the tasks although its answer is lost.
            once: Any = {"max_retries": 0}
            for start in range(0, len(new), _BATCH):
                client.projects.import_tasks(id=number, request=new[start : start + _BATCH], request_options=once)
            place = f"{url}/projects/{number}/data"
            done.append(Pushed(titles[kind], place, len(new), len(project.tasks) - len(new)))
    return done


def pull(name: str, config: RunConfig, output: Path) -> Imported:
    """Adds the finished answers in the projects of a name to the labels, as `label_studio.import_labels` does.

    Args:
        name: that the titles begin with.
        config: with the schema, the listings that were predicted, and labels.
        output: the JSONL file to write.

    Raises:
        InputError: a missing or wrong setting, no such project, or as `import_labels`.
        AttrloopError: the server cannot be reached, or refuses.
    """
    check_labels_output(output)
    schema = load_schema(config.data.catalogue_schema)
    titles = [_title(name, kind) for kind in PROJECTS.values()]
    problems, tasks, exported = list[Problem](), list[Asked](), 0
    with _connected() as (client, url):
        for title in titles:
            number = _find(client, url, title)
            if number is not None:
                exported += 1
                rows = read_json(client.projects.exports.as_binary(number), f"{url}/projects/{number}")
                tasks += tasks_of(rows, f"project {title!r}", problems)
        if not exported:
            what = f"no project {' or '.join(map(repr, titles))}"
            raise fail(url, what, "Push first, or give the name that was pushed to with --project")
    found = labels_of(tasks, schema)
    found.unread = problems
    return add(found, schema, config, output)


def _title(name: str, kind: str) -> str:
    title = f"{name} ({kind})"
    if len(title) > _TITLE:
        room = _TITLE - max(len(f" ({kind})") for kind in PROJECTS.values())
        what = f"too long for the title of a project, which has {_TITLE} characters"
        raise fail(f"--project {name!r}", what, f"Give a name of at most {room} characters with --project")
    return title


def _find(client: _Client, url: str, title: str) -> int | None:
    """The number of the project with a title; None where there is none."""
    found = [project.id for project in client.projects.list(include="id,title") if project.title == title]
    if len(found) > 1:
        places = ", ".join(f"{url}/projects/{number}" for number in found)
        raise fail(places, f"{len(found)} projects are named {title!r}", "Rename all but one")
    return found[0] if found else None


def _key(data: Any) -> tuple[str, str]:
    return str(data.get("listing")), str(data.get("attribute"))


def _asked_about(client: _Client, number: int) -> set[tuple[str, str]]:
    tasks = client.tasks.list(project=number, fields="task_only", page_size=_BATCH, resolve_uri=False)
    return {_key(task.data or {}) for task in tasks}


@contextmanager
def _connected() -> Iterator[tuple[_Client, str]]:
    """A client and the server's address. Errors of the server become errors that say what to do."""
    url, key = os.environ.get(URL, "").strip().rstrip("/"), secret(KEY)
    if not url.startswith(("http://", "https://")):
        raise fail(URL, f"{'holds no address' if url else 'is not set'}", "Set it to e.g. https://label-studio.example")
    if reveals(url):
        raise fail(URL, "holds a user or password, which messages would show", f"Leave them out and set {KEY}")
    if not key:
        what = "Set it to a token: Account & Settings / Personal Access Token in Label Studio"
        raise fail(KEY, "is not set", what)
    try:
        import httpx
        from label_studio_sdk.client import LabelStudio
        from label_studio_sdk.core.api_error import ApiError
    except ImportError as error:
        raise AttrloopError(
            f"the SDK of Label Studio is missing ({error.name}): pip install 'attrloop[review]'"
        ) from error
    try:
        make: Any = LabelStudio
        yield make(base_url=url, api_key=key, timeout=_TIMEOUT_S), url
    except ApiError as error:
        raise AttrloopError(masked(_refusal(url, error.status_code, error.body), key)) from None
    except httpx.TimeoutException:
        raise AttrloopError(f"Label Studio at {url} does not answer within {_TIMEOUT_S:.0f} seconds") from None
    except httpx.HTTPError as error:
        why = masked(str(error), key)
        raise AttrloopError(f"Label Studio at {url} cannot be reached: {why}. Check {URL} and the network") from None
    except (JSONDecodeError, ValidationError) as error:
        raise AttrloopError(f"{url} does not answer as Label Studio does. Check {URL}") from error


def _refusal(url: str, status: int | None, body: Any) -> str:
    """What a refusal means. What the server says is cut: it may repeat whole tasks."""
    told = body if isinstance(body, dict) else {}
    said = "".join(f" ({str(told[key])[:_SHOWN]})" for key in ("detail", "validation_errors") if told.get(key))
    if status == 401:
        hint = "take a personal access token: Label Studio allows legacy tokens only where an organisation does"
        return f"Label Studio at {url} refuses the token in {KEY}{said}: {hint}"
    if status == 403:
        return f"Label Studio at {url} forbids it{said}: the user of the token needs access to the project"
    if status is not None and (status == 404 or status < 300):
        return f"{url} does not answer as Label Studio does, or the project is gone{said}. Check {URL}"
    return f"Label Studio at {url} fails with status {status}{said}"
