"""`make tour`: take the screenshots of docs/tour.md from a running demo."""

import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "tour"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
WIDE, PHONE = {"width": 1200, "height": 800}, {"width": 390, "height": 844}
SIZE_LIMIT = 150_000

# Name of the screenshot -> its URL, and selectors of links to follow from there.
STOPS: dict[str, tuple[str, ...]] = {
    "home": ("/admin/",),
    "inbox": ("/admin/delivery/conversation/", "#inbox-list .ob-inbox-row:not(.ob-unseen)"),
    "outbound": ("/admin/messaging/message/",),
    "composer": ("/admin/messaging/message/add/",),
    "report": ("/admin/messaging/message/?q=Welcome", "#result_list a[href*='/change/']"),
    "people": ("/admin/audiences/customer/",),
    "profile": ("/admin/audiences/customer/", "#result_list a[href*='/change/']"),
    "write": (
        "/admin/audiences/customer/",
        "#result_list a[href*='/change/']",
        "a[href*='/customer/'][href$='/message/']",
    ),
    "why": (
        "/admin/audiences/customer/",
        "#result_list a[href*='/change/']",
        "a[href*='/why/?message=']",
    ),
    "segment": ("/admin/audiences/audience/", "#result_list a[href*='/change/']"),
    "attributes": ("/admin/audiences/customattribute/",),
    "workspace": ("/admin/audiences/workspace/1/change/",),
    "staff": ("/admin/auth/user/",),
    "log": ("/admin/admin/logentry/",),
}
ON_A_PHONE: dict[str, tuple[str, ...]] = {"phone": STOPS["profile"], "phone-inbox": STOPS["inbox"]}


def main() -> int:
    """Take all screenshots, and report those that are too large."""
    base = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    try:
        urllib.request.urlopen(f"{base}/admin/login/", timeout=30).close()  # noqa: S310 - the demo of this machine
    except (urllib.error.URLError, OSError):
        sys.stderr.write(f"No demo runs at {base}. Start it with `make demo`, then run `make tour`.\n")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for stops, size in ((STOPS, WIDE), (ON_A_PHONE, PHONE)):
            page = browser.new_context(viewport=size, reduced_motion="reduce").new_page()  # type: ignore[arg-type]
            page.set_default_timeout(60_000)
            log_in(page, base)
            for name, way in stops.items():
                take_screenshot(page, base, name, way)
        browser.close()
    large = [picture.name for picture in FOLDER.glob("*.png") if picture.stat().st_size > SIZE_LIMIT]
    if large:
        sys.stderr.write(f"Larger than {SIZE_LIMIT:,} bytes: {', '.join(large)}\n")
    return len(large)


def log_in(page: Any, base: str) -> None:
    """Log in as the demo's Admin."""
    page.goto(f"{base}/admin/login/")
    page.fill("input[name=username]", "demo")
    page.fill("input[name=password]", "demo")
    page.click("button[type=submit]")
    page.wait_for_url("**/admin/")


def take_screenshot(page: Any, base: str, name: str, way: tuple[str, ...]) -> None:
    """Open the page and take the screenshot when it has loaded."""
    first, *links = way
    page.goto(base + first)
    for link in links:
        page.goto(base + str(page.locator(link).first.get_attribute("href")))
    page.wait_for_load_state("networkidle")
    page.screenshot(path=FOLDER / f"{name}.png")
    sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    sys.exit(main())
