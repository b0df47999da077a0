"""`make audit`: report known vulnerabilities of the packages in requirements-extras.lock.

pip-audit asks PyPI's API or OSV. If neither can be reached, for example behind a mirror, this is reported and is not a
failure.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-extras.lock"
SERVICES = ("pypi", "osv")


def query_service(program: str, service: str) -> list[dict[str, Any]]:
    """Return the packages that a service knows; empty if it cannot be reached or knows none."""
    command = [program, "--disable-pip", "--require-hashes", "--requirement", str(LOCK), "--format", "json"]
    command += ["--vulnerability-service", service, "--progress-spinner", "off", "--timeout", "10"]
    # The program is the one that Make has just installed.
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages: list[dict[str, Any]] = json.loads(finished.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return []
    return [package for package in packages if "skip_reason" not in package]


def main(program: str) -> int:
    """Ask the services until one answers; return 1 if a vulnerability was found."""
    for service in SERVICES:
        known = query_service(program, service)
        harmful = [(package, one) for package in known for one in package["vulns"]]
        for package, one in harmful:
            fixed = ", ".join(one["fix_versions"]) or "no version yet"
            sys.stderr.write(f"{package['name']} {package['version']}: {one['id']}, fixed in {fixed}\n")
        if known:
            sys.stdout.write(f"{len(known)} packages checked, {len(harmful)} known vulnerabilities.\n")
            return 1 if harmful else 0
    sys.stdout.write("Vulnerabilities were not checked: no vulnerability service can be reached.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
