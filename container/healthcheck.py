"""The health check of a container: end with 1 unless `/healthz` of the web process reports that these parts work.

python container/healthcheck.py http://web:8000 sweep
"""

import json
import os
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT = 8


def broken_parts(address: str, parts: list[str]) -> list[str]:
    """Return those of the parts that do not work."""
    host = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip("*.") or "127.0.0.1"
    request = Request(f"{address}/healthz", headers={"Host": host})  # noqa: S310 - the address is in compose.yaml
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            report = json.load(answer)
    except HTTPError as unhealthy:
        # 503 names the part that does not work, and that may be another one.
        report = json.load(unhealthy)
    return [part for part in parts if not report.get(part, {}).get("ok")]


if __name__ == "__main__":
    if broken := broken_parts(sys.argv[1], sys.argv[2:]):
        sys.exit(f"not healthy: {', '.join(broken)}")
