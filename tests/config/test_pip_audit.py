"""`make audit`: a vulnerability is a failure, an unreachable service is not."""

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
        ({"pypi": [HARMLESS, UNKNOWN]}, 0, "1 packages checked, 0 known vulnerabilities"),
        ({"pypi": [UNKNOWN], "osv": [HARMFUL]}, 1, "PYSEC-1"),
        ({"pypi": [UNKNOWN]}, 0, "Vulnerabilities were not checked"),
        ({}, 0, "Vulnerabilities were not checked"),
    ],
)
def test_a_vulnerability_is_a_failure_and_an_unreachable_service_is_not(tmp_path, capsys, says, code, words):
    for service, packages in says.items():
        (tmp_path / service).write_text(json.dumps({"dependencies": packages}))
    program = tmp_path / "pip-audit"
    program.write_text(f'#!/bin/sh\nwhile [ "$1" != --vulnerability-service ]; do shift; done\ncat "{tmp_path}/$2"\n')
    program.chmod(0o755)

    assert pip_audit.main(str(program)) == code
    said = capsys.readouterr()
    assert words in said.out + said.err
