"""Mobile push: FCM_CREDENTIALS need the optional package firebase-admin."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITHOUT_LIBRARY = "import sys; sys.modules['firebase_admin'] = None; "


def load_settings(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {"DATABASE_URL": "postgres://user@127.0.0.1:1/nothing", "SECRET_KEY": "k", "PATH": os.environ["PATH"]}
    return subprocess.run(  # noqa: S603 - our own settings
        [sys.executable, "-c", code + "from config import settings"],
        cwd=ROOT,
        env={**base, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_credentials_without_the_library_stop_the_start_with_the_command_to_run():
    refused = load_settings(WITHOUT_LIBRARY, FCM_CREDENTIALS="{}")

    assert refused.returncode == 1
    assert "ImproperlyConfigured: FCM_CREDENTIALS is set, but" in refused.stderr
    assert "python -m pip install --require-hashes -r requirements-push.lock" in refused.stderr


def test_neither_credentials_nor_library_are_required():
    assert load_settings(WITHOUT_LIBRARY).returncode == 0
    assert load_settings("", FCM_CREDENTIALS="{}").returncode == 0
