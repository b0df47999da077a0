"""Theme of the console: names, navigation, styles and colours of the admin."""

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Outbound",
    "SITE_HEADER": "Outbound",
    "SITE_SYMBOL": "send",
    "SITE_URL": None,
    "DASHBOARD_CALLBACK": "outbound.home.dashboard",
    "ACCOUNT": {"navigation": [{"title": "Sign-in and security", "link": reverse_lazy("mfa_index")}]},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "outbound.console.navigation.sidebar",
    },
    "STYLES": [
        lambda request: static("outbound/console/console.css"),
        lambda request: static("outbound/people/people.css"),
    ],
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("outbound/favicon.svg")},
    ],
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.604)",
            "100": "oklch(93.2% .032 255.585)",
            "200": "oklch(88.2% .059 254.128)",
            "300": "oklch(80.9% .105 251.813)",
            "400": "oklch(70.7% .165 254.624)",
            "500": "oklch(62.3% .214 259.815)",
            "600": "oklch(54.6% .245 262.881)",
            "700": "oklch(48.8% .243 264.376)",
            "800": "oklch(42.4% .199 265.638)",
            "900": "oklch(37.9% .146 265.522)",
            "950": "oklch(28.2% .091 267.935)",
        }
    },
}
