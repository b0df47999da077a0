"""User agent parser: browser, version and operating system, as far as rules use them."""

import re

# In this order, because each browser also names those below it.
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
    """Return the browser's name and version, both "" if unknown."""
    for name, pattern in BROWSERS:
        if found := re.search(pattern, user_agent):
            return name, found[1].rstrip(".")
    return "", ""


def parse_os(user_agent: str) -> str:
    """Return the operating system, "" if unknown."""
    return next((name for name, pattern in SYSTEMS if re.search(pattern, user_agent)), "")
