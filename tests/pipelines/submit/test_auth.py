"""Every way to say who we are, against a server that lets nobody else in; and that no secret is ever shown."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kfp.client import auth as official

from attrloop.components.errors import AttrloopError, InputError
from attrloop.pipelines.submit.client import Kubeflow
from attrloop.pipelines.submit.submission import Wanted
from attrloop.pipelines.submit.submit import submit
from tests.pipelines.submit.conftest import Server, options

BEARER = {"authorization": "Bearer sesame-7"}


def test_a_token_and_a_cookie_come_from_variables(
    server: Server, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for header, value, way in (
        ("authorization", "Bearer sesame-7", "token"),
        ("cookie", "authservice_session=sesame-7", "cookie"),
    ):
        monkeypatch.setenv("SECRET", value.removeprefix("Bearer "))
        server.set(needs={header: value})
        submit(wanted, server.destination(auth=f"{way}:SECRET"))
    assert len(server.rows("runs")) == 1


def test_a_secret_is_never_shown(server: Server, wanted: Wanted) -> None:
    for needs in (BEARER, {"authorization": "Bearer another"}):
        server.set(needs=needs)
        done = server.attrloop(
            "submit", *options(wanted), "--auth", "token:SECRET", "--wait", "--every", "0.1", SECRET="sesame-7"
        )
        out, err = done.communicate(timeout=60)
        assert done.returncode == (0 if needs == BEARER else 1), err
        assert "sesame" not in out + err
    assert "sesame" not in json.dumps(server.seen())


@pytest.mark.parametrize("way", ["token", "cookie"])
def test_a_secret_of_two_lines_is_named_and_not_shown(
    server: Server, wanted: Wanted, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "sesame-7\nsesame-8")
    with pytest.raises(InputError, match="the environment variable SECRET: holds a line break") as caught:
        submit(wanted, server.destination(auth=f"{way}:SECRET"))
    assert "sesame" not in str(caught.value) and server.sent() == []


@pytest.mark.parametrize("auth", ["token:eyJh.sesame.x", "cookie:session=sesame", "bearer:sesame", "sesame"])
def test_a_secret_in_place_of_its_variable_is_not_repeated(auth: str) -> None:
    with pytest.raises(InputError, match="--auth") as caught:
        Kubeflow("http://127.0.0.1:9", auth=auth)
    assert "sesame" not in str(caught.value)


def test_a_service_accounts_token_is_read_again_when_it_was_renewed(
    server: Server, wanted: Wanted, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    server.set(needs={"authorization": "Bearer first"})
    kubeflow = Kubeflow(server.url, auth=f"service-account:{token}", patience=5)
    look = lambda client: client.list_runs()  # noqa: E731
    kubeflow.call("look", look)
    token.write_text("second\n")
    server.set(needs={"authorization": "Bearer second"})
    kubeflow.call("look", look)
    token.write_text("wrong")
    with pytest.raises(AttrloopError, match="refused to look: 401"):
        kubeflow.call("look", look)


def test_iap_gets_an_identity_token_for_the_client_id(
    server: Server, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The official client's own flow with a service account's key; only Google's token endpoint is replaced."""
    key = (
        rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    )
    account = {
        "type": "service_account",
        "client_email": "ci@example.test",
        "private_key": key,
        "token_uri": f"{server.url}/token",
        "project_id": "p",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setattr(official, "OAUTH_TOKEN_URI", f"{server.url}/token")
    monkeypatch.setattr(official, "LOCAL_KFP_CREDENTIAL", str(tmp_path / "none"))
    server.set(needs={"authorization": "Bearer identity-for-client-9"})
    submit(wanted, server.destination(auth="iap:client-9"))
    assert len(server.rows("runs")) == 1
    with pytest.raises(AttrloopError, match="Check --auth"):
        submit(wanted, server.destination(auth="iap:another"))


def test_without_an_identity_iap_is_explained(
    server: Server, wanted: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "account.json").write_text("{}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.setattr(official, "LOCAL_KFP_CREDENTIAL", str(tmp_path / "none"))
    with pytest.raises(
        AttrloopError, match=r"could not take the pipeline attribute-loop at http.*Check --host and --auth"
    ):
        submit(wanted, server.destination(auth="iap:client-9"))


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ("token:ABSENT", "the environment variable ABSENT is not set"),
        ("cookie:ABSENT", "the environment variable ABSENT is not set"),
        ("token", "no such way to authenticate"),
        ("password:x", "no such way to authenticate"),
        ("service-account", "there is no service account token at /var/run/secrets"),
        ("service-account:/absent", "there is no service account token at /absent"),
    ],
)
def test_what_is_wrong_with_the_way_to_authenticate_is_said_before_anything_is_sent(
    server: Server, wanted: Wanted, auth: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        submit(wanted, server.destination(auth=auth))
    assert server.sent() == []
