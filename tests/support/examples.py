"""The settings of property tests."""

import os

from hypothesis import HealthCheck, settings

# For a longer run: EXAMPLES_FACTOR=10 make test
FACTOR = int(os.environ.get("EXAMPLES_FACTOR", "1"))
# How fast an example is depends on the machine, and one fixture may serve all examples.
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


def load_profile() -> None:
    settings.register_profile("tests", max_examples=100 * FACTOR, deadline=None, suppress_health_check=SUPPRESSED)
    settings.load_profile("tests")


def examples(count: int) -> settings:
    """Try `count` examples, times EXAMPLES_FACTOR."""
    return settings(max_examples=count * FACTOR)
