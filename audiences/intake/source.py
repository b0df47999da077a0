"""The sender of data: what each may add to the catalogues, and undo."""

from enum import Enum


class Source(Enum):
    """Who says so: REST (a sync) may undo an opt-out that a sync made, a browser none (behaviour 4.11)."""

    REST = "rest"
    # A visitor, or somebody named without a proof: anybody can say what such a browser says.
    BROWSER = "browser"
    # The browser of a user whose user_hash was right.
    PROVED_BROWSER = "proved browser"

    @property
    def is_browser(self) -> bool:
        """Whether it is a page that says so, and not the customer's server."""
        return self is not Source.REST


# How many names a catalogue may have for a sender to add one more. The last places are kept for the customer's server
# and for staff, whatever the browsers of users send.
MAX_ATTRIBUTES = 250
MAX_FROM_BROWSERS = 200
CATALOGUE_LIMITS: dict[Source, int] = {
    Source.REST: MAX_ATTRIBUTES,
    Source.PROVED_BROWSER: MAX_FROM_BROWSERS,
    Source.BROWSER: 0,
}
