"""How busy the machine is."""

import os


def slowdown() -> float:
    """Return how many times longer work takes than on an idle machine: the processes that each processor runs."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
