"""The settings, loaded by a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
