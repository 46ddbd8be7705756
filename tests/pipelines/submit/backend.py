"""A Kubeflow Pipelines API server for tests: v2beta1 over REST as the official client uses it, with lasting state.

It answers as the real one does (status codes, error bodies, names of fields, conflicts, what it validates). Its runs
start no pods: they go through a script of states, one at each look.
"""

import email
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import kfp_server_api
import yaml
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse

API = "/apis/v2beta1"
KINDS = ("pipelines", "pipeline_versions", "experiments", "runs", "recurring_runs")
GOOD = [
    ["PENDING", {}],
    ["RUNNING", {"preflight": "RUNNING"}],
    ["RUNNING", {"preflight": "SUCCEEDED", "sft": "RUNNING"}],
    ["SUCCEEDED", {"sft": "SUCCEEDED"}],
]


class State:
    """Everything that outlives a restart, written at every change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables: dict[str, dict[str, dict[str, Any]]] = {}
        self.reset()
        if path.exists():
            self.tables = json.loads(path.read_text())

    def reset(self) -> None:
        """Forgets everything; `save` makes it last."""
        self.tables = {kind: {} for kind in KINDS}
        self.script: list[Any] = GOOD
        self.faults: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.needs: dict[str, str] = {}
        self.multi_user = False

    def save(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.tables))
        os.replace(temporary, self.path)

    def add(self, kind: str, **fields: Any) -> dict[str, Any]:
        name = kind.removesuffix("s")
        identity = str(uuid.uuid4())
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.tables[kind][identity] = {f"{name}_id": identity, "created_at": created} | {
            key: value for key, value in fields.items() if value is not None
        }
        self.save()
        return self.tables[kind][identity]

    def find(self, kind: str, **equal: Any) -> list[dict[str, Any]]:
        return [
            row
            for row in self.tables[kind].values()
            if all(row.get(key) == value for key, value in equal.items() if value is not None)
        ]


def problem(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message, "code": status, "message": message, "details": []}, status)


def upload_problem(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error_message": message, "error_details": f"{message}: details"}, status)


async def uploaded(request: Request) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The pipeline and platform specs in a multipart upload."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parts: Any = email.message_from_bytes(head + await request.body()).get_payload()
    file = next(part for part in parts if part.get_param("name", header="content-disposition") == "uploadfile")
    documents = list(yaml.load_all(file.get_payload(decode=True), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return (documents[0], documents[1:]) if documents and "pipelineInfo" in documents[0] else (None, [])


def selected(rows: list[dict[str, Any]], field: str, request: Request) -> JSONResponse:
    """A page of a list: filtered, sorted by creation."""
    query = request.query_params
    for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] != "display_name":
            return problem(400, "Invalid filter")
        rows = [row for row in rows if row["display_name"] == predicate["stringValue"]]
    rows = sorted(rows, key=lambda row: row["created_at"], reverse=query.get("sort_by", "").endswith("desc"))
    page = rows[: int(query.get("page_size") or 20)]
    return JSONResponse(
        {field: page, "total_size": len(rows)} if page else {}
    )  # an empty list has no field, as in protobuf's JSON


def checked(state: State, body: dict[str, Any], model: Any) -> JSONResponse | None:
    """What is wrong with a run or recurring run that is to be created."""
    if unknown := set(body) - set(model.attribute_map.values()):
        return problem(400, f"unknown fields {sorted(unknown)}")
    if body.get("experiment_id") not in state.tables["experiments"]:
        return problem(404, "Experiment not found")
    version = state.tables["pipeline_versions"].get(
        body.get("pipeline_version_reference", {}).get("pipeline_version_id", "")
    )
    if version is None:
        return problem(404, "PipelineVersion not found")
    spec = version["pipeline_spec"]
    inputs = spec.get("pipeline_spec", spec)["root"].get("inputDefinitions", {}).get("parameters", {})
    missing = [
        name
        for name, about in inputs.items()
        if "defaultValue" not in about and name not in body["runtime_config"]["parameters"]
    ]
    return problem(400, f"parameters not provided: {missing}") if missing else None


def application(state: State) -> FastAPI:
    app = FastAPI()
    api_of_pipelines(app, state)
    api_of_runs(app, state)
    return app


def api_of_pipelines(app: FastAPI, state: State) -> None:  # noqa: C901 - handlers of a server
    @app.get(f"{API}/healthz")
    async def healthz() -> dict[str, Any]:
        return {"multi_user": state.multi_user}

    @app.post(f"{API}/pipelines/upload")
    async def upload(
        request: Request, name: str = "", description: str | None = None, namespace: str | None = None
    ) -> Any:
        spec, platform = await uploaded(request)
        if spec is None:
            return upload_problem(400, "Failed to read a pipeline spec file")
        if state.multi_user and not namespace:
            return PlainTextResponse("Namespace is required", 400)
        if state.find("pipelines", name=name):
            return upload_problem(409, "Failed to create a pipeline and a pipeline version")
        made = state.add("pipelines", name=name, display_name=name, description=description, namespace=namespace)
        add_version(made["pipeline_id"], name, description, spec, platform)
        return made

    @app.post(f"{API}/pipelines/upload_version")
    async def upload_version(request: Request, pipelineid: str, name: str = "", description: str | None = None) -> Any:
        spec, platform = await uploaded(request)
        if spec is None or pipelineid not in state.tables["pipelines"]:
            return upload_problem(400, "Failed to create a pipeline version")
        if state.find("pipeline_versions", pipeline_id=pipelineid, name=name):
            return upload_problem(409, "Failed to create a pipeline version")
        return add_version(pipelineid, name, description, spec, platform)

    def add_version(
        pipeline_id: str, name: str, description: str | None, spec: Any, platform: list[Any]
    ) -> dict[str, Any]:
        content = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        return state.add(
            "pipeline_versions",
            pipeline_id=pipeline_id,
            name=name,
            display_name=name,
            description=description,
            pipeline_spec=content,
        )

    @app.get(f"{API}/pipelines")
    async def pipelines(request: Request, namespace: str | None = None) -> Any:
        return selected(state.find("pipelines", namespace=namespace or None), "pipelines", request)

    @app.get(f"{API}/pipelines/{{pipeline_id}}/versions")
    async def versions(request: Request, pipeline_id: str) -> Any:
        return selected(state.find("pipeline_versions", pipeline_id=pipeline_id), "pipeline_versions", request)

    @app.get(f"{API}/pipelines/{{pipeline_id}}/versions/{{version_id}}")
    async def version(pipeline_id: str, version_id: str) -> Any:
        return state.tables["pipeline_versions"].get(version_id) or problem(404, "PipelineVersion not found")

    @app.get(f"{API}/experiments")
    async def experiments(request: Request, namespace: str | None = None) -> Any:
        if state.multi_user and not namespace:
            return problem(400, "Namespace is empty")
        return selected(state.find("experiments", namespace=namespace or None), "experiments", request)

    @app.post(f"{API}/experiments")
    async def experiment(request: Request) -> Any:
        body = await request.json()
        if state.find("experiments", display_name=body["display_name"], namespace=body.get("namespace")):
            return problem(409, "Already exist error")
        return state.add("experiments", **body)


def api_of_runs(app: FastAPI, state: State) -> None:  # noqa: C901 - handlers of a server
    @app.get(f"{API}/runs")
    async def runs(request: Request, experiment_id: str | None = None) -> Any:
        return selected(state.find("runs", experiment_id=experiment_id), "runs", request)

    @app.post(f"{API}/runs")
    async def create_run(request: Request) -> Any:
        body = await request.json()
        return checked(state, body, kfp_server_api.V2beta1Run) or state.add(
            "runs", **body, state="PENDING", script=state.script, looks=0
        )

    @app.get(f"{API}/runs/{{run_id}}")
    async def run(run_id: str) -> Any:
        if (row := state.tables["runs"].get(run_id)) is None:
            return problem(404, "Run not found")
        row["state"], steps = row["script"][min(row["looks"], len(row["script"]) - 1)]
        row["looks"] += 1
        tasks = {task["task_id"]: task for task in row.get("run_details", {}).get("task_details", [])}
        for name, step in steps.items():
            tasks[name] = {"run_id": run_id, "task_id": name, "display_name": name, "state": step}
            if step == "FAILED":
                tasks[name]["error"] = {"code": 13, "message": f"{name} ran out of memory"}
        row["run_details"] = {"task_details": list(tasks.values())}
        state.save()
        return row

    @app.post(f"{API}/runs/{{run_id}}:terminate")
    async def terminate(run_id: str) -> dict[str, Any]:
        state.tables["runs"][run_id].update(state="CANCELING", script=[["CANCELED", {}]], looks=0)
        state.save()
        return {}

    @app.get(f"{API}/recurringruns")
    async def recurring_runs(request: Request, experiment_id: str | None = None) -> Any:
        return selected(state.find("recurring_runs", experiment_id=experiment_id), "recurringRuns", request)

    @app.post(f"{API}/recurringruns")
    async def create_recurring_run(request: Request) -> Any:
        body = await request.json()
        cron = body["trigger"]["cron_schedule"]["cron"]
        if len(cron.split()) != 6 and not cron.startswith("@"):
            return problem(400, "Schedule cron is not a supported format")
        status = "ENABLED" if body["mode"] == "ENABLE" else "DISABLED"
        return checked(state, body, kfp_server_api.V2beta1RecurringRun) or state.add(
            "recurring_runs", **body, status=status
        )

    @app.get(f"{API}/recurringruns/{{identity}}")
    async def recurring_run(identity: str) -> Any:
        return state.tables["recurring_runs"].get(identity) or problem(404, "Job not found")

    @app.delete(f"{API}/recurringruns/{{identity}}")
    async def delete(identity: str) -> Any:
        if state.tables["recurring_runs"].pop(identity, None) is None:
            return problem(404, "Job not found")
        state.save()
        return {}
