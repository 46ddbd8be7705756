"""Tests do not depend on the settings of the person who runs them."""

import os
import subprocess
import sys

PERSONAL = {
    "ATTRLOOP_TRAINER_IMAGE": "trainer:mine",
    "ATTRLOOP_WORKER_IMAGE": "worker:mine",
    "AWS_PROFILE": "mine",
    "GOOGLE_APPLICATION_CREDENTIALS": "key.json",
    "HTTPS_PROXY": "http://proxy.example:3128",
    "KF_PIPELINES_ENDPOINT": "https://kubeflow.example",
    "MLFLOW_TRACKING_URI": "https://mlflow.example",
    "OPENAI_API_KEY": "mine",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
}


def test_personal_settings_are_gone_before_a_test_reads_them() -> None:
    code = "import os, sys, tests.conftest; sys.exit(' '.join(set(sys.argv[1:]) & set(os.environ)) or None)"
    done = subprocess.run(
        [sys.executable, "-c", code, *PERSONAL], env=os.environ | PERSONAL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
