"""Packages of the extras, which a variable may need."""

from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured


def require_package(variable: str, *, module: str, package: str, lock: str) -> None:
    """Stop the start with the command to run if the package of a variable that is set is not installed."""
    try:
        is_installed = find_spec(module) is not None
    except ModuleNotFoundError:
        # A package above the module is missing.
        is_installed = False
    if not is_installed:
        raise ImproperlyConfigured(
            f"{variable} is set, but the package {package} is not installed. Run: "
            f"python -m pip install --require-hashes -r {lock}"
        )
