"""The rights of whoever submits, held against what `attrloop submit` and `attrloop schedule` ask of a server."""

import re

from attrloop.pipelines.submit.submission import Wanted
from attrloop.pipelines.submit.submit import schedule, submit
from manifests.check.build import Document
from manifests.check.rights import rights
from tests.pipelines.submit.conftest import Server, config, home, loop, running, server, wanted  # noqa: F401 # fixtures

# What Kubeflow's API server 2.17 asks Kubernetes about a request (backend/src/apiserver/server, `canAccess...`).
# A version counts as its pipeline.
ASKED = {
    "GET /pipelines": ("pipelines", "list"),
    "POST /pipelines/upload": ("pipelines", "create"),
    "GET /pipelines/ID/versions": ("pipelines", "list"),
    "GET /pipelines/ID/versions/ID": ("pipelines", "get"),
    "POST /pipelines/upload_version": ("pipelines", "create"),
    "GET /experiments": ("experiments", "list"),
    "POST /experiments": ("experiments", "create"),
    "GET /runs": ("runs", "list"),
    "POST /runs": ("runs", "create"),
    "GET /runs/ID": ("runs", "get"),
    "POST /runs/ID:terminate": ("runs", "terminate"),
    "GET /recurringruns": ("jobs", "list"),
    "POST /recurringruns": ("jobs", "create"),
    "GET /recurringruns/ID": ("jobs", "get"),
    "DELETE /recurringruns/ID": ("jobs", "delete"),
}


def test_the_submitter_may_do_what_submitting_asks_for_and_no_more(
    overlays: dict[str, list[Document]],
    server: Server,  # noqa: F811
    wanted: Wanted,  # noqa: F811
) -> None:
    submit(wanted, server.destination())
    (run,) = server.rows("runs")
    reference = run["pipeline_version_reference"]
    server.official().run_pipeline(  # what another submitter did at the same moment: the younger run is stopped
        run["experiment_id"],
        run["display_name"],
        params=run["runtime_config"]["parameters"],
        pipeline_id=reference["pipeline_id"],
        version_id=reference["pipeline_version_id"],
    )
    submit(wanted, server.destination(), wait=True, every=0.1)
    for cron in ("0 6 * * 1", "0 7 * * 1"):
        schedule(wanted, server.destination(), cron)

    requests = {re.sub(r"[0-9a-f-]{36}", "ID", what) for what in server.seen()["requests"]} - {"GET /healthz"}
    asked = {ASKED[what] for what in requests}
    assert {("runs", "terminate"), ("jobs", "delete")} <= asked
    for name in ("local", "gke"):
        assert {(resource, verb) for _, resource, _, verb in rights(overlays[name], "submitter")} == asked
