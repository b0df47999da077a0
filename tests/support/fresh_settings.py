"""The settings for other environment variables: in a process of their own or, much faster, in this one."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "config" / "settings.py"


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


@cache
def compiled_settings() -> CodeType:
    return compile(SETTINGS.read_text(), SETTINGS, "exec")


def execute_settings(**environment: str) -> dict[str, Any]:
    """Return the settings for these variables beside those of the tests; raise what stops the start of a process."""
    found: dict[str, Any] = {"__file__": str(SETTINGS), "__name__": "settings"}
    with patch.dict(os.environ, environment):
        exec(compiled_settings(), found)  # noqa: S102
    return found
