"""The programs of the Makefile can start."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(set(re.findall(r"-m ((?:config|benchmarks)[\w.]*)", (ROOT / "Makefile").read_text())))


def test_makefile_starts_programs_of_ours():
    assert {"benchmarks", "benchmarks.trial", "config.demo"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_is_imported_before_django_is_set_up(program):
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", f"import {program}"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
