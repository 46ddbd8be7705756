"""What `attrloop submit` and `attrloop schedule` do.

Everything is checked before anything is sent. The same submission sent twice has an effect once.
"""

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
from attrloop.pipelines.submit.step_lines import steps_of
from attrloop.pipelines.submit.submission import Submission, Wanted, plan
from attrloop.pipelines.submit.wait import follow


@dataclass(frozen=True)
class Destination:
    """The server, and how to access it.

    Attributes:
        host: URL of the Kubeflow Pipelines server; "" to let the official client find one.
        namespace: of a multi-user server; "" for a single-user one.
        auth: see `auth.credentials`.
        experiment: groups the runs.
        run_as: Kubernetes service account of the steps.
        patience: how long a request is repeated while the server does not answer, in seconds.
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
        """The server. It is not contacted before the first call."""
        return Kubeflow(
            self.host,
            namespace=self.namespace,
            auth=self.auth,
            patience=self.patience,
            timeout=self.timeout,
            tell=_note,
        )


def submit(
    wanted: Wanted, destination: Destination, wait: bool = False, timeout: float | None = None, every: float = 10
) -> int:
    """Starts a run, or joins the run of the same submission, and prints its id as the last line, before it waits.

    Args:
        wanted: what to run.
        destination: the server.
        wait: whether to follow it to its end.
        timeout: seconds to wait at most.
        every: seconds between looks.

    Returns:
        The exit code: 0, or with `wait` one of the exit codes in `wait`.

    Raises:
        AttrloopError: bad input, or the server refused or did not answer. Nothing was started then, except when only
            the answer was lost.
    """
    kubeflow = destination.connect()
    with tempfile.TemporaryDirectory(prefix="attrloop-") as folder:
        submission = plan(wanted, Path(folder))
        experiment, version = _deliver(kubeflow, submission, destination.experiment)
        run, started = ensure_run(kubeflow, submission, experiment, version, destination.run_as)
        how = "started" if started else f"joined ({run.state.lower()})"
        print(f"run       {submission.run}, {how}: {kubeflow.link(f'runs/details/{run.run_id}')}")
        print(run.run_id, flush=True)
        if not wait:
            return 0
        return follow(
            kubeflow,
            run.run_id,
            lambda: current_run(kubeflow, submission, experiment),
            steps_of(submission.file),
            workspace=submission.arguments.get("workspace", ""),
            every=every,
            timeout=timeout,
            tell=_note,
        )


def schedule(wanted: Wanted, destination: Destination, cron: str, name: str = "") -> None:
    """Makes a recurring run, or replaces the one of that name if it differs. Prints its id as the last line.

    Args:
        wanted: what to run.
        destination: the server.
        cron: five fields (minute, hour, day, month, weekday) in the server's time zone, or six that begin with seconds.
        name: name of the recurring run; "" for that of the config or the pipeline.

    Raises:
        AttrloopError: as `submit`.
    """
    when, kubeflow = six_fields(cron), destination.connect()
    with tempfile.TemporaryDirectory(prefix="attrloop-") as folder:
        submission = plan(wanted, Path(folder), with_data=False)
        experiment, version = _deliver(kubeflow, submission, destination.experiment)
        made, what = ensure_schedule(
            kubeflow,
            submission,
            name or submission.name,
            when,
            experiment_id=experiment,
            version=version,
            run_as=destination.run_as,
        )
    paused = ", paused" if made.status == "DISABLED" else ""
    link = kubeflow.link(f"recurringrun/details/{made.recurring_run_id}")
    print(f"schedule  {made.display_name} at '{when}', {what}{paused}: {link}")
    print(made.recurring_run_id)


def _deliver(kubeflow: Kubeflow, submission: Submission, experiment: str) -> tuple[str, object]:
    if loose := sorted(image for image in submission.compiled.images if "@sha256:" not in image):
        _note(f"images not pinned by digest, which may change during a run: {', '.join(loose)}")
    version, uploaded = ensure_version(kubeflow, submission)
    how = "uploaded" if uploaded else "there already"
    print(f"pipeline  {submission.compiled.name}, version {submission.version}, {how}")
    submission.deliver_config()
    print(
        f"workspace {submission.arguments['workspace']}"
        if "workspace" in submission.arguments
        else f"key       {submission.key}"
    )
    return ensure_experiment(kubeflow, experiment), version


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
