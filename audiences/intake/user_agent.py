"""Browser, its version and the operating system, read from a user agent: what rules ask about, and no more."""

import re

# In order: each browser also claims to be those below it.
BROWSERS: tuple[tuple[str, str], ...] = (
    ("Edge", r"\b(?:Edg|EdgA|EdgiOS|Edge)/([\d.]+)"),
    ("Opera", r"\b(?:OPR|Opera|OPiOS)/([\d.]+)"),
    ("Samsung Internet", r"\bSamsungBrowser/([\d.]+)"),
    ("Firefox", r"\b(?:Firefox|FxiOS)/([\d.]+)"),
    ("Chrome", r"\b(?:Chrome|CriOS|Chromium)/([\d.]+)"),
    ("Safari", r"\bVersion/([\d.]+).*\bSafari/"),
    ("Internet Explorer", r"\b(?:MSIE |Trident/.*\brv:)([\d.]+)"),
)
SYSTEMS: tuple[tuple[str, str], ...] = (
    ("iOS", r"\b(?:iPhone|iPad|iPod)\b"),
    ("Android", r"\bAndroid\b"),
    ("Windows", r"\bWindows\b"),
    ("macOS", r"\bMac ?OS ?X\b|\bMacintosh\b"),
    ("ChromeOS", r"\bCrOS\b"),
    ("Linux", r"\bLinux\b|\bX11\b"),
)


def parse_browser(user_agent: str) -> tuple[str, str]:
    """Return the browser's name and version, both "" where the table has none."""
    for name, pattern in BROWSERS:
        if found := re.search(pattern, user_agent):
            return name, found[1].rstrip(".")
    return "", ""


def parse_os(user_agent: str) -> str:
    """Return the operating system, "" where the table has none."""
    return next((name for name, pattern in SYSTEMS if re.search(pattern, user_agent)), "")
