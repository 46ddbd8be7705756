"""Secrets are read from the environment, and nothing else ever holds one."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from attrloop.components.errors import InputError
from attrloop.components.run.config import RunConfig, TrackingConfig, load_config
from attrloop.components.run.workspace import Workspace
from attrloop.components.secrets import masked, public, secret


@pytest.mark.parametrize(("held", "found"), [("sk-1 23~", "sk-1 23~"), ("\tsk-1\r\n", "sk-1"), ("\n", "")])
def test_white_space_around_a_secret_is_removed(held: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", held)
    assert secret("A_SECRET") == found
    monkeypatch.delenv("A_SECRET")
    assert secret("A_SECRET") == ""


@pytest.mark.parametrize("held", ["hunter2\nhunter2", "hunter2\x7f", "“hunter2”", "hunter2\u00a0x"])
def test_a_secret_that_cannot_be_sent_is_named_and_not_shown(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", held)
    with pytest.raises(InputError, match=r"the environment variable A_SECRET: .*Set it to the secret alone") as caught:
        secret("A_SECRET")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("held", "found"), [("für alle ", "für alle "), ("hunter2\n", "hunter2")])
def test_a_secret_that_is_sent_encoded_may_be_any_text(held: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", held)
    assert secret("A_SECRET", encoded=True) == found
    monkeypatch.setenv("A_SECRET", "hunter2\nhunter2")
    with pytest.raises(InputError, match="holds a line break") as caught:
        secret("A_SECRET", encoded=True)
    assert "hunter2" not in str(caught.value)


CONFIG = "data: {catalogue_schema: schema.yaml, listings: listings.jsonl}\nmodel: {base: some/model}\n"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            'tracking: {uri: "https://bob:hunter2@mlflow.example"}',
            r"run.yaml:3 \(tracking.uri\): .*MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (
            'tracking: {uri: "postgresql://bob:hun/hunter2@db/mlflow"}',
            r"\(tracking.uri\): .*a database's MLFLOW_TRACKING_URI",
        ),
        ('tracking: {uri: "postgresql://db/mlflow?user=bob&password=hunter2"}', r"\(tracking.uri\)"),
        (
            'annotate: {base_url: "https://hunter2@llm.example/v1"}',
            r"\(annotate.base_url\): .*the variable that key_env names",
        ),
        (
            'mine: {truth: "https://bob:hunter2@files.example/labels.jsonl"}',
            r"\(mine.truth\): holds a user or password",
        ),
        (
            'annotate: {base_url: "https://llm.example/v1?key=hunter2"}',
            r"\(annotate.base_url\): is no address of an endpoint: write it with https:// and without a query",
        ),
        ('annotate: {base_url: "hunter2.example/v1"}', r"\(annotate.base_url\): is no address of an endpoint"),
        ("annotate: {key_env: sk-proj-hunter2}", r"\(annotate.key_env\)"),
    ],
)
def test_a_config_that_holds_a_secret_is_refused_where_it_stands(section: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(CONFIG + section)
    with pytest.raises(InputError, match=said) as caught:
        load_config(tmp_path / "run.yaml")
    assert "hunter2" not in str(caught.value)


def test_a_record_with_a_secret_is_refused_without_showing_it() -> None:
    raw = '{"data": {"catalogue_schema": "s", "listings": "l"}, "model": {"base": "b"}, "tracking": {"uri": "https://bob:hunter2@mlflow.example"}}'
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate_json(raw)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "http://mlflow:5000/x@y",
        "sqlite:////home/me@work/mlflow.db",
        "sqlite:///runs@home/mlflow.db",
        "databricks://profile",
        "postgresql://mlflow@db/mlflow",
    ],
)
def test_an_address_without_a_user_is_accepted(uri: str) -> None:
    assert TrackingConfig(uri=uri).uri == uri


def test_a_workspace_whose_config_is_refused_says_so(tmp_path: Path) -> None:
    raw = '{"data": {"catalogue_schema": "s", "listings": "l"}, "model": {"base": "b"}, "tracking": {"uri": "https://bob:hunter2@mlflow.example"}}'
    (tmp_path / "config.json").write_text(raw)
    with pytest.raises(InputError, match=r"config\.json:1 \(tracking\.uri\): holds a user or password") as caught:
        Workspace.open(str(tmp_path))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("https://bob:hunter2@cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("https://bob:12/hunter2@cdn.example/a.jpg", "https://cdn.example/a.jpg"),
        ("https://cdn.example/a.jpg?sig=hunter2", "https://cdn.example/a.jpg?..."),
        ("https://cdn.example/a.jpg;sig=hunter2", "https://cdn.example/a.jpg?..."),
        ("https://cdn.example/a.jpg&sig=hunter2", "https://cdn.example/a.jpg?..."),
        ("https://cdn.example/a.jpg%3Fsig=hunter2", "https://cdn.example/a.jpg?..."),
        ("//bob:hunter2@cdn.example/a.jpg?sig=hunter2", "//cdn.example/a.jpg?..."),
        ("https:/bob:hunter2@cdn.example/a.jpg?sig=hunter2", "https:/cdn.example/a.jpg?..."),
        ("https:\\\\bob:hunter2@cdn.example\\a.jpg", "https:\\\\cdn.example\\a.jpg"),
        ("bob:hunter2@cdn.example/a.jpg", "cdn.example/a.jpg"),
        ("/shop/bob:hunter2@cdn.example/a.jpg", "/shop/cdn.example/a.jpg"),
        ("/shop/cdn.example/a.jpg?X-Amz-Signature=hunter2", "/shop/cdn.example/a.jpg?..."),
        ("data:image/png;base64,hunter2", "data:image/png;base64,..."),
        *((same, same) for same in ("/me@work/a@2x.jpg", "what?/#1/a&b.jpg", "http://localhost:9000/a@2x.jpg")),
        *((same, same) for same in ("https://cdn.example:443/a@2x.jpg", "s3://bucket/a;b.jpg")),
    ],
)
def test_what_grants_access_is_not_shown_in_a_url_of_any_spelling(reference: str, shown: str) -> None:
    assert public(reference) == shown


KEY = "sk-proj-hunter2-hunter2"


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        KEY.upper(),
        KEY[:20],
        KEY.replace("s", "\\u0073").replace("h", "\\u0068"),
        KEY.replace("h", "\\\\u0068"),
        KEY.replace("-", "%2D"),
    ],
)
def test_a_key_is_masked_however_it_is_written(written: str) -> None:
    assert masked(f'{{"why": "Bearer {written}", "x', KEY) == '{"why": "Bearer ***", "x'
    assert masked(f"a {written}. B", KEY) == "a ***. B"


def test_a_text_without_the_key_stays_as_it_is() -> None:
    assert masked("sk-proj- is how keys begin", KEY) == "sk-proj- is how keys begin"
    assert masked("any text", "any") == "any text"
