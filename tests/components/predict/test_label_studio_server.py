"""Tasks go to a real Label Studio and finished answers come back, once each; what is wrong is said plainly."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from attrloop.components.catalogue.readers import read_labels
from attrloop.components.catalogue.schema import Schema
from attrloop.components.errors import AttrloopError, InputError
from attrloop.components.predict.label_studio import read_export
from attrloop.components.predict.label_studio_server import KEY, URL, pull, push
from attrloop.components.predict.queue import projects_of, select
from attrloop.components.run.workspace import Workspace
from tests.http_server import QuietHandler, serving
from tests.label_studio import LabelStudio, label_studio

sdk = pytest.importorskip("label_studio_sdk.client", reason="the extra `review` is not installed")
Client = Any


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    with label_studio(tmp_path_factory.mktemp("label-studio")) as found:
        yield found


@pytest.fixture
def client(server: LabelStudio, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The environment names the server; a client of the SDK acts as its annotators."""
    monkeypatch.setenv(URL, f"{server.url}/")
    monkeypatch.setenv(KEY, f"{server.token}\n")
    return sdk.LabelStudio(base_url=server.url, api_key=server.token)


def asked(client: Client, title: str) -> dict[tuple[str, str], int]:
    """The number of every task of a project by listing and attribute; each occurs once."""
    (project,) = [row.id for row in client.projects.list() if row.title == title]
    tasks = [(row.id, row.data) for row in client.tasks.list(project=project, fields="task_only")]
    found = {(data["listing"], data["attribute"]): number for number, data in tasks}
    assert len(found) == len(tasks)
    return found


def answer(client: Client, task: int, *values: str, **more: Any) -> None:
    result = [{"from_name": "answer", "to_name": "why", "type": "choices", "value": {"choices": list(values)}}]
    client.annotations.create(id=task, result=result if values else [], **more)


@pytest.mark.slow
def test_a_queue_is_pushed_reviewed_and_pulled(ws: Workspace, client: Client, server: LabelStudio) -> None:
    root = Path(ws.config.data.listings).parent
    first = push(projects_of(ws, select(ws, 3)), "weekly")
    assert [(row.title, row.added, row.present) for row in first] == [
        ("weekly (one-value)", 3, 0),
        ("weekly (several-values)", 3, 0),
    ]
    again = push(projects_of(ws, select(ws, 4)), "weekly")
    assert [(row.added, row.present) for row in again] == [(1, 3), (1, 3)]
    assert server.get(first[0].url.removeprefix(server.url)[1:]).ok

    one, several = asked(client, "weekly (one-value)"), asked(client, "weekly (several-values)")
    answer(client, one["mug-0", "colour"], "blue")
    answer(client, one["mug-1", "colour"], "red")
    answer(client, one["mug-1", "colour"], "green")
    answer(client, one["mug-2", "colour"], was_cancelled=True)
    answer(client, one["mug-3", "colour"], "red")
    answer(client, one["mug-3", "colour"], "green", ground_truth=True)
    answer(client, several["mug-0", "decor"], "hearts", "dots")
    found = pull("weekly", ws.config, root / "labels.jsonl")
    assert (found.skipped, found.disputed, found.unread) == (4, ["mug-1/colour"], []), "3 decors are not answered yet"
    labels = read_labels(root / "labels.jsonl", ws.schema, ws.listings)
    assert {(row.listing, row.attribute): row.value for row in labels} == {
        ("mug-0", "colour"): "blue",
        ("mug-3", "colour"): "green",
        ("mug-0", "decor"): "dots; hearts",
    }
    assert all(row.source == "review" and row.reviewer == "1" and row.reviewed_at for row in labels)
    before = (root / "labels.jsonl").read_text()
    pull("weekly", ws.config, root / "labels.jsonl")
    assert (root / "labels.jsonl").read_text() == before

    assert [(row.added, row.present) for row in push(projects_of(ws, select(ws, 4)), "weekly")] == [(0, 4), (0, 4)]
    _every_form_of_export_gives_the_same_labels(ws, client, root)


def _every_form_of_export_gives_the_same_labels(ws: Workspace, client: Client, root: Path) -> None:
    numbers = {row.title: row.id for row in client.projects.list()}
    for title in ("weekly (one-value)", "weekly (several-values)"):
        read = {}
        for form in ("JSON", "JSON_MIN", "CSV", "TSV"):
            data = b"".join(client.projects.exports.download_sync(numbers[title], export_type=form))
            (root / f"export.{form}").write_bytes(data)
            found = read_export(root / f"export.{form}", ws.schema)
            assert not found.unread
            # Only JSON tells what is the ground truth: elsewhere the two answers to mug-3 are a dispute.
            read[form] = [row for row in found.labels if row.listing != "mug-3"]
            assert found.disputed in ([], ["mug-1/colour"], ["mug-1/colour", "mug-3/colour"])
        assert read["JSON"] and read["JSON"] == read["JSON_MIN"] == read["CSV"] == read["TSV"]


CONTROLS: list[tuple[str, str, str, Any]] = [
    (
        "decor",
        '<Choices choice="multiple" {}><Choice value="dots"/><Choice value="[3]"/></Choices>',
        "choices",
        ["[3]"],
    ),
    ("decor", '<Choices choice="multiple" {}><Choice value="a, &quot;b&quot;"/></Choices>', "choices", ['a, "b"']),
    ("decor", '<Taxonomy {}><Choice value="x"><Choice value="dots"/></Choice></Taxonomy>', "taxonomy", [["x", "dots"]]),
    ("size", "<Rating {}/>", "rating", 2),
    ("size", "<Number {}/>", "number", 2),
    ("size", "<TextArea {}/>", "text", ["2"]),
]


@pytest.mark.slow
def test_every_control_is_read_from_every_form_of_export(client: Client, tmp_path: Path) -> None:
    attributes = {"decor": {"values": ["dots", "[3]", 'a, "b"'], "many": True}, "size": {"values": ["1", "2"]}}
    schema = Schema.model_validate({"verticals": {"mug": {"attributes": attributes}}})
    for attribute, control, kind, value in CONTROLS:
        shown = control.format('name="answer" toName="why"')
        page = f'<View><Text name="why" value="$why"/>{shown}</View>'
        project = client.projects.create(title=f"controls {kind}", label_config=page).id
        data = {"listing": "mug-0", "vertical": "mug", "attribute": attribute, "why": 'two\nlines, "quoted"'}
        (number,) = client.projects.import_tasks(id=project, request=[{"data": data}], return_task_ids=True).task_ids
        tag = {"text": "textarea"}.get(kind, kind)
        result = {"from_name": "answer", "to_name": "why", "type": tag, "value": {kind: value}}
        client.annotations.create(id=number, result=[result])
        right = {"rating": "2", "number": "2", "taxonomy": "dots"}.get(kind) or str(next(iter(value)))
        for form in ("JSON", "JSON_MIN", "CSV", "TSV"):
            export = tmp_path / "export"
            export.write_bytes(b"".join(client.projects.exports.download_sync(project, export_type=form)))
            found = read_export(export, schema)
            assert [row.value for row in found.labels] == [right] and not found.unread, (control, form)


@pytest.mark.slow
def test_a_photograph_with_an_odd_name_is_found_where_label_studio_serves_it(
    ws: Workspace, client: Client, server: LabelStudio
) -> None:
    root, odd = Path(ws.config.data.listings).parent, "a b%20?#&+é'\".png"
    (server.served / "photos").mkdir()
    for folder in (root, server.served / "photos"):
        Image.new("RGB", (30, 30), "red").save(folder / odd)
    rows = [json.loads(line) | {"images": [odd]} for line in Path(ws.config.data.listings).read_text().splitlines()]
    Path(ws.config.data.listings).write_text("".join(json.dumps(row) + "\n" for row in rows))
    ws = Workspace.open(ws.store.root)
    (done, *_) = push(projects_of(ws, select(ws, 1), "/data/local-files/?d=photos/"), "odd & <b>")
    number = asked(client, "odd & <b> (one-value)")["mug-0", "colour"]
    task = client.tasks.get(id=str(number))
    client.import_storage.local.create(project=task.project, path=str(server.served / "photos"), title="photographs")
    (image,) = task.data["images"]
    assert server.get(image[1:]).content == (server.served / "photos" / odd).read_bytes()
    assert done.url == f"{server.url}/projects/{task.project}/data"


@pytest.mark.slow
def test_what_label_studio_refuses_is_explained(
    ws: Workspace, client: Client, server: LabelStudio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = projects_of(ws, select(ws, 1))
    with pytest.raises(InputError, match=r"no project 'nothing \(one-value\)' or .*--project"):
        pull("nothing", ws.config, tmp_path / "labels.jsonl")
    other = '<View><Image name="a" value="$b"/><Choices name="c" toName="a"><Choice value="d"/></Choices></View>'
    for title in ("theirs (one-value)", "twice (one-value)", "twice (one-value)"):
        client.projects.create(title=title, label_config=other)
    with pytest.raises(InputError, match="has a labelling interface without 'answer'"):
        push(made, "theirs")
    with pytest.raises(InputError, match=r"2 projects are named 'twice \(one-value\)'"):
        push(made, "twice")
    monkeypatch.setenv(KEY, server.legacy_token)
    assert [row.added for row in push(made, "legacy")] == [1, 1], "a legacy token does too, where it is allowed"
    server.post("jwt/settings", api_tokens_enabled=True, legacy_api_tokens_enabled=False)
    with pytest.raises(
        AttrloopError, match=r"refuses the token in LABEL_STUDIO_API_KEY .*take a personal access token"
    ):
        push(made, "legacy")
    for wrong in ("wrong-token", server.token[:-6] + "abcdef"):
        monkeypatch.setenv(KEY, wrong)
        with pytest.raises(AttrloopError, match="refuses the token in LABEL_STUDIO_API_KEY") as told:
            push(made, "legacy")
        assert wrong not in str(told.value) and len(str(told.value)) < 600


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv(URL, "http://127.0.0.1:1")
    monkeypatch.setenv(KEY, "a-secret-token")
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (URL, "", "LABEL_STUDIO_URL: is not set"),
        (URL, "label-studio.example", "LABEL_STUDIO_URL: holds no address"),
        (URL, "https://ann:pass-word@label-studio.example", "LABEL_STUDIO_URL: holds a user or password"),
        (KEY, "", "LABEL_STUDIO_API_KEY: is not set"),
        (KEY, "a\nb", "LABEL_STUDIO_API_KEY: holds a line break"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    ws: Workspace, environment: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(InputError, match=message) as told:
        push(projects_of(ws, select(ws, 1)), "weekly")
    assert "pass-word" not in str(told.value)


def test_a_title_that_label_studio_would_refuse_is_named_beforehand(ws: Workspace) -> None:
    with pytest.raises(InputError, match="Give a name of at most 33 characters with --project"):
        push(projects_of(ws, select(ws, 1)), "a" * 34)


class Html(QuietHandler):
    """Somebody else's server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Welcome</html>")

    do_POST = do_GET


class Broken(QuietHandler):
    """A server that fails, and repeats what it was sent."""

    def do_GET(self) -> None:
        body = json.dumps({"detail": f"bad {self.headers['Authorization']} " + "x" * 10_000}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(
    ("handler", "message"),
    [(Html, "does not answer as Label Studio does"), (Broken, r"fails with status 400 \(bad Token \*\*\* x+")],
)
def test_a_server_that_is_not_label_studio_or_fails_is_told(
    ws: Workspace, environment: pytest.MonkeyPatch, handler: type[BaseHTTPRequestHandler], message: str
) -> None:
    with serving(handler) as url:
        environment.setenv(URL, url)
        with pytest.raises(AttrloopError, match=message) as told:
            push(projects_of(ws, select(ws, 1)), "weekly")
    assert "a-secret-token" not in str(told.value) and len(str(told.value)) < 500


def test_a_server_that_is_away_or_silent_is_told(ws: Workspace, environment: pytest.MonkeyPatch) -> None:
    made = projects_of(ws, select(ws, 1))
    with pytest.raises(AttrloopError, match=r"at http://127.0.0.1:1 cannot be reached: .*Check LABEL_STUDIO_URL"):
        push(made, "weekly")
    environment.setattr("attrloop.components.predict.label_studio_server._TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environment.setenv(URL, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(AttrloopError, match="does not answer within"):
            push(made, "weekly")
