"""Makes sure that a version, an experiment, a run or a schedule is on the server, exactly once."""

from typing import Any

from kfp_server_api import ApiException

from attrloop.components.errors import AttrloopError
from attrloop.pipelines.submit.client import Kubeflow, named
from attrloop.pipelines.submit.submission import Submission

# States of a run that is not joined: the same command again makes another attempt.
_OVER = ("FAILED", "CANCELED", "CANCELING", "SKIPPED")


def ensure_version(kubeflow: Kubeflow, submission: Submission) -> tuple[Any, bool]:
    """The pipeline's version with this content.

    Returns:
        The version, and whether it was uploaded now.
    """
    name, file = submission.compiled.name, str(submission.file)

    def find_pipeline(client: Any) -> Any | None:
        return next(
            iter(named(client.list_pipelines, "pipelines", name, namespace=client.get_user_namespace() or None)), None
        )

    def upload_pipeline(client: Any) -> Any:
        return client.upload_pipeline(file, pipeline_name=name, namespace=client.get_user_namespace() or None)

    pipeline, _ = kubeflow.ensure(f"take the pipeline {name}", find_pipeline, upload_pipeline)
    pipeline_id, about = pipeline.pipeline_id, f"attrloop {submission.revision}"
    return kubeflow.ensure(
        f"take version {submission.version} of {name}",
        lambda client: next(
            iter(
                named(client.list_pipeline_versions, "pipeline_versions", submission.version, pipeline_id=pipeline_id)
            ),
            None,
        ),
        lambda client: client.upload_pipeline_version(
            file, submission.version, pipeline_id=pipeline_id, description=about
        ),
    )


def ensure_experiment(kubeflow: Kubeflow, name: str) -> str:
    """Id of the experiment, which is made if there is none."""
    found, _ = kubeflow.ensure(
        f"make the experiment {name}",
        lambda client: next(
            iter(named(client.list_experiments, "experiments", name, namespace=client.get_user_namespace())), None
        ),
        lambda client: client.create_experiment(name, namespace=client.get_user_namespace() or None),
    )
    return found.experiment_id


def ensure_run(
    kubeflow: Kubeflow, submission: Submission, experiment_id: str, version: Any, run_as: str = ""
) -> tuple[Any, bool]:
    """The run of a submission: one that is under way or succeeded, else a new one.

    The server cannot create a run only if there is none. If two submitters create one at the same moment, both keep the
    older one and stop the other in its first seconds.

    Args:
        kubeflow: the server.
        submission: what to run.
        experiment_id: the experiment.
        version: the pipeline's version on the server.
        run_as: Kubernetes service account of the steps; "" for the server's default.

    Returns:
        The run, and whether it was started now.

    Raises:
        AttrloopError: a run of another submission (other data or another version) is at work in the same workspace.
    """

    def start(client: Any) -> Any:
        if other := _in_the_way(client, submission):
            raise AttrloopError(
                f"run {other.run_id} ({other.display_name}) is at work in {submission.arguments['workspace']}, with "
                "other data or another version. Wait for its end or stop it, then give the same command again."
            )
        return client.run_pipeline(
            experiment_id,
            submission.run,
            params=submission.arguments,
            pipeline_id=version.pipeline_id,
            version_id=version.pipeline_version_id,
            service_account=run_as or None,
        )

    run, made = kubeflow.ensure(
        "start the run", lambda client: next(iter(_alive(client, submission, experiment_id)), None), start
    )
    kept = current_run(kubeflow, submission, experiment_id) or run
    return kept, made and kept.run_id == run.run_id


def current_run(kubeflow: Kubeflow, submission: Submission, experiment_id: str) -> Any | None:
    """The submission's run, if one is under way or succeeded; other runs of the same submission are stopped."""

    def settle(client: Any) -> Any | None:
        kept, *others = _alive(client, submission, experiment_id) or [None]
        for other in others:
            if other.state != "SUCCEEDED":
                client.terminate_run(other.run_id)
        return kept

    return kubeflow.call("list the submission's runs", settle)


def _in_the_way(client: Any, submission: Submission) -> Any | None:
    """A run of another submission that is under way in the same workspace, in any experiment."""
    latest = (
        client.list_runs(page_size=100, sort_by="created_at desc", namespace=client.get_user_namespace() or None).runs
        or []
    )
    others = (run for run in latest if run.display_name != submission.run and run.state not in (*_OVER, "SUCCEEDED"))
    place = submission.arguments.get("workspace")
    return next(
        (
            run
            for run in others
            if place and ((run.runtime_config and run.runtime_config.parameters) or {}).get("workspace") == place
        ),
        None,
    )


def _alive(client: Any, submission: Submission, experiment_id: str) -> list[Any]:
    return [
        run
        for run in named(client.list_runs, "runs", submission.run, experiment_id=experiment_id)
        if run.state not in _OVER
    ]


def ensure_schedule(
    kubeflow: Kubeflow,
    submission: Submission,
    name: str,
    cron: str,
    *,
    experiment_id: str,
    version: Any,
    run_as: str = "",
) -> tuple[Any, str]:
    """The recurring run of a name, with exactly this content.

    The server cannot change a recurring run: a new one is made before the old one is removed.

    Args:
        kubeflow: the server.
        submission: what is to run.
        name: name of the recurring run.
        cron: when: six fields, of which the first is seconds.
        experiment_id: where.
        version: the pipeline's version on the server.
        run_as: as in `ensure_run`.

    Returns:
        The recurring run, and what happened: `unchanged`, `made` or `replaced`.
    """
    content = f"attrloop {submission.key}, {cron}{f', as {run_as}' if run_as else ''}"

    def find(client: Any) -> Any | None:
        return next((entry for entry in _schedules(client, name, experiment_id) if entry.description == content), None)

    def make(client: Any) -> Any:
        return client.create_recurring_run(
            experiment_id,
            name,
            description=content,
            cron_expression=cron,
            max_concurrency=1,
            no_catchup=True,
            params=submission.arguments,
            pipeline_id=version.pipeline_id,
            version_id=version.pipeline_version_id,
            service_account=run_as or None,
        )

    def remove_others(client: Any) -> int:
        others = [
            entry
            for entry in _schedules(client, name, experiment_id)
            if entry.recurring_run_id != schedule.recurring_run_id
        ]
        for entry in others:
            try:
                client.delete_recurring_run(entry.recurring_run_id)
            except ApiException as error:
                if error.status != 404:  # already removed by a request whose answer was lost
                    raise
        return len(others)

    schedule, made = kubeflow.ensure("make the recurring run", find, make)
    removed = kubeflow.call("remove the former recurring run", remove_others)
    return schedule, "replaced" if removed else "made" if made else "unchanged"


def _schedules(client: Any, name: str, experiment_id: str) -> list[Any]:
    return named(client.list_recurring_runs, "recurring_runs", name, experiment_id=experiment_id)
