"""Other products, each as a small Django project, in the environment of `requirements-peers.lock`."""

import os
import sys
from pathlib import Path

# `make bench` installs them beside Outbound's own packages.
PYTHON = Path(os.environ.get("PEERS_PYTHON", Path(sys.prefix) / "peers/bin/python"))
