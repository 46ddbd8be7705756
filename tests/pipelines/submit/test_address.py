"""Which server is meant; an address that cannot be right is refused at once, and the one that is tried is named."""

from pathlib import Path

import pytest
from kubernetes.config import kube_config

from attrloop.components.errors import AttrloopError, InputError
from attrloop.pipelines.submit.client import Kubeflow
from attrloop.pipelines.submit.submission import Wanted
from attrloop.pipelines.submit.submit import submit
from tests.pipelines.submit.conftest import Server


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where one is looked for; there is none yet, and this is no pod."""
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return tmp_path / "kubeconfig"


@pytest.mark.parametrize("end", ["", "/", "///"])
def test_slashes_at_the_end_do_no_harm(server: Server, end: str) -> None:
    kubeflow = Kubeflow(server.url + end)
    kubeflow.call("look", lambda client: client.list_runs())
    assert kubeflow.link("runs") == f"{server.url}/#/runs"


@pytest.mark.parametrize(
    "host",
    [
        "localhost:8080",
        "kubeflow.example/pipeline",
        "https://",
        "ftp://kubeflow.example",
        "https://k.example/pipeline/#/runs",
        "h x",
    ],
)
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(InputError, match=r"--host .*not the address of a server.*http\(s\)://HOST"):
        Kubeflow(host)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(InputError) as caught:
        Kubeflow("https://me:sesame@kubeflow.example/#/runs")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("auth", ["", "token:SECRET"])
def test_without_any_address_nothing_is_tried(kubeconfig: Path, auth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    told: list[str] = []
    with pytest.raises(InputError, match="Give --host or KF_PIPELINES_ENDPOINT"):
        Kubeflow(auth=auth, tell=told.append).call("look", lambda client: client.list_runs())
    assert told == []


def test_the_address_comes_from_the_environment(
    server: Server, wanted: Wanted, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    submit(wanted, server.destination(host=""))
    assert len(server.rows("runs")) == 1


def test_the_address_that_a_kubeconfig_leads_to_is_named(server: Server, kubeconfig: Path) -> None:
    kubeconfig.write_text(f"""
clusters: [{{name: c, cluster: {{server: "{server.url}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
""")
    proxy = f"{server.url}/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
    with pytest.raises(
        AttrloopError, match=f"Kubeflow at {proxy} refused to look: 404 Not Found"
    ):  # the test's server is no cluster
        Kubeflow(patience=1).call("look", lambda client: client.list_runs())
    server.stop()
    told: list[str] = []
    with pytest.raises(AttrloopError, match=f"Kubeflow at {proxy} did not look within 1 s"):
        Kubeflow(patience=1, tell=told.append).call("look", lambda client: client.list_runs())
    assert told and proxy in told[0]
    server.start()
