"""`make audit`: whether anything in requirements-push.lock is known to be harmful.

pip-audit asks PyPI's own API or OSV. Behind a mirror that has neither nobody can know, which is said and is no failure;
only what was found is.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-push.lock"
SERVICES = ("pypi", "osv")


def asked(program: str, service: str) -> list[dict[str, Any]]:
    """What one service knows of each package; empty where it cannot be reached, or knows none of them."""
    said = [program, "--disable-pip", "--require-hashes", "--requirement", str(LOCK), "--format", "json"]
    said += ["--vulnerability-service", service, "--progress-spinner", "off", "--timeout", "10"]
    # The program is the one Make has just installed.
    told = subprocess.run(said, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        packages: list[dict[str, Any]] = json.loads(told.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return []
    return [package for package in packages if "skip_reason" not in package]


def main(program: str) -> int:
    """Ask one service after the other until one answers; 1 where something harmful was found."""
    for service in SERVICES:
        known = asked(program, service)
        harmful = [(package, one) for package in known for one in package["vulns"]]
        for package, one in harmful:
            fixed = ", ".join(one["fix_versions"]) or "no version yet"
            sys.stderr.write(f"{package['name']} {package['version']}: {one['id']}, fixed in {fixed}\n")
        if known:
            sys.stdout.write(f"{len(known)} packages asked about, {len(harmful)} known faults.\n")
            return 1 if harmful else 0
    sys.stdout.write(
        "Nobody could be asked whether a package is known to be harmful: no service is reached from here.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
