"""Commands that name a run take one in a bucket."""

from pathlib import Path

from typer.testing import CliRunner

from attrloop.components.run.config import TrackingConfig
from attrloop.components.storage.opening import open_store
from attrloop.pipelines.cli.main import app
from tests.emulator import move
from tests.tracked import make_run


def test_the_report_of_a_run_in_a_bucket_is_written_again(bucket: str, tmp_path: Path) -> None:
    make_run(tmp_path)
    uri = move(
        tmp_path,
        bucket,
        "run",
        "annotate",
        "sft",
        "iteration-1",
        "evaluate",
        tracking=TrackingConfig(uri="http://mlflow.test"),
    )
    done = CliRunner().invoke(app, ["report", uri], catch_exceptions=False)
    assert done.exit_code == 0 and f"{uri}/report.html" in done.stdout and done.stdout.splitlines()[-1] == uri
    assert open_store(uri).read("report.html").startswith(b"<!") and open_store(uri).exists("summary.json")


def test_what_is_no_run_is_refused(bucket: str) -> None:
    error = CliRunner().invoke(app, ["rollback", f"{bucket}/runs/none"]).exception
    assert f"{bucket}/runs/none: not the folder of a run" in str(error)
