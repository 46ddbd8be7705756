"""What `attrloop submit` and `attrloop schedule` do. Everything is checked before anything is sent; sent twice it has effect once."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from attrloop.pipelines.submit.client import TIMEOUT, Kubeflow
from attrloop.pipelines.submit.cron import six_fields
from attrloop.pipelines.submit.deliver import (
    current_run,
    ensure_experiment,
    ensure_run,
    ensure_schedule,
    ensure_version,
)
from attrloop.pipelines.submit.submission import Submission, Wanted, plan
from attrloop.pipelines.submit.wait import follow, steps_of


@dataclass(frozen=True)
class Destination:
    """Where to, and as whom.

    Attributes:
        host: URL of the Kubeflow Pipelines server; "" for what the official client finds.
        namespace: of a multi-user server.
        auth: see `auth.credentials`.
        experiment: groups the runs.
        run_as: Kubernetes service account of the steps.
        patience: seconds for which a request is repeated while the server is away.
        timeout: seconds to connect, and to wait for an answer.
    """

    host: str = ""
    namespace: str = ""
    auth: str = ""
    experiment: str = "attrloop"
    run_as: str = ""
    patience: float = 120
    timeout: tuple[float, float] = TIMEOUT

    def connect(self) -> Kubeflow:
        return Kubeflow(self.host, self.namespace, self.auth, self.patience, self.timeout, _note)


def submit(
    wanted: Wanted, destination: Destination, wait: bool = False, timeout: float | None = None, every: float = 10
) -> int:
    """Starts a run, or joins the one that the same submission started; prints its id as the last line, before it waits.

    Args:
        wanted: what is to run.
        destination: where.
        wait: whether to follow it to its end.
        timeout: seconds to wait at most.
        every: seconds between looks.

    Returns:
        the exit code: 0, or with `wait` one of `wait`'s.

    Raises:
        AttrloopError: bad input, or the server refused or did not answer; nothing was started then, unless its answer was lost.
    """
    kubeflow = destination.connect()
    with tempfile.TemporaryDirectory(prefix="attrloop-") as folder:
        submission = plan(wanted, Path(folder))
        experiment, version = _deliver(kubeflow, submission, destination.experiment)
        run, started = ensure_run(kubeflow, submission, experiment, version, destination.run_as)
        print(
            f"run       {submission.run}, {'started' if started else f'joined ({run.state.lower()})'}: {kubeflow.link(f'runs/details/{run.run_id}')}"
        )
        print(run.run_id, flush=True)
        if not wait:
            return 0
        steps = steps_of(submission.file)
        return follow(
            kubeflow, run.run_id, lambda: current_run(kubeflow, submission, experiment), steps, every, timeout, _note
        )


def schedule(wanted: Wanted, destination: Destination, cron: str, name: str = "") -> None:
    """Makes or replaces a recurring run; one that is as wanted already is left alone. Prints its id as the last line.

    Args:
        wanted: what is to run.
        destination: where.
        cron: five fields (minute, hour, day, month, weekday) in the server's time zone, or six with seconds first.
        name: of the recurring run; "" for the config's or the pipeline's.

    Raises:
        AttrloopError: as `submit`.
    """
    when, kubeflow = six_fields(cron), destination.connect()
    with tempfile.TemporaryDirectory(prefix="attrloop-") as folder:
        submission = plan(wanted, Path(folder), with_data=False)
        experiment, version = _deliver(kubeflow, submission, destination.experiment)
        made, what = ensure_schedule(
            kubeflow, submission, name or submission.name, when, experiment, version, destination.run_as
        )
    paused = ", paused" if made.status == "DISABLED" else ""
    print(
        f"schedule  {made.display_name} at '{when}', {what}{paused}: {kubeflow.link(f'recurringrun/details/{made.recurring_run_id}')}"
    )
    print(made.recurring_run_id)


def _deliver(kubeflow: Kubeflow, submission: Submission, experiment: str) -> tuple[str, object]:
    if loose := sorted(image for image in submission.compiled.images if "@sha256:" not in image):
        _note(f"images not pinned by digest, which may change under a run: {', '.join(loose)}")
    version, uploaded = ensure_version(kubeflow, submission)
    print(
        f"pipeline  {submission.compiled.name}, version {submission.version}, {'uploaded' if uploaded else 'there already'}"
    )
    submission.deliver_config()
    print(
        f"workspace {submission.arguments['workspace']}"
        if "workspace" in submission.arguments
        else f"key       {submission.key}"
    )
    return ensure_experiment(kubeflow, experiment), version


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
