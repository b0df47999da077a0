"""Layout of the repository: packages and modules stay small enough to read."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = ("config", "outbound", "delivery", "messaging", "audiences")
MAX_MODULES = 15
MAX_LINES = 400


def modules() -> list[Path]:
    return [
        path
        for app in APPS
        for path in (ROOT / app).rglob("*.py")
        if "migrations" not in path.parts and path.name != "__init__.py"
    ]


def test_no_package_has_more_than_15_modules():
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in modules())
    assert sizes
    assert {package: size for package, size in sizes.items() if size > MAX_MODULES} == {}


def test_no_module_has_more_than_400_lines():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    assert lengths
    assert {module: length for module, length in lengths.items() if length > MAX_LINES} == {}
