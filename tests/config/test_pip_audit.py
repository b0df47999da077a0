"""What `make audit` makes of what pip-audit says: found is a failure, unable to ask is a sentence."""

import json

import pytest

from config import pip_audit

HARMFUL = {"name": "django", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
HARMLESS = {"name": "nh3", "version": "0.3", "vulns": []}
UNKNOWN = {"name": "vine", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        ({"pypi": [HARMFUL, HARMLESS]}, 1, "django 1.0: PYSEC-1, fixed in 1.1"),
        ({"pypi": [HARMLESS, UNKNOWN]}, 0, "1 packages asked about, 0 known faults"),
        ({"pypi": [UNKNOWN], "osv": [HARMFUL]}, 1, "PYSEC-1"),
        ({"pypi": [UNKNOWN]}, 0, "Nobody could be asked"),
        ({}, 0, "Nobody could be asked"),
    ],
)
def test_what_was_found_is_a_failure_and_not_to_be_able_to_ask_is_none(tmp_path, capsys, says, code, words):
    for service, packages in says.items():
        (tmp_path / service).write_text(json.dumps({"dependencies": packages}))
    program = tmp_path / "pip-audit"
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != --vulnerability-service ]; do shift; done\ncat "{tmp_path}/$2"\n')
    program.chmod(0o755)

    assert pip_audit.main(str(program)) == code
    said = capsys.readouterr()
    assert words in said.out + said.err
