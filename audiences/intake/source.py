"""Source of data, which decides what may be added to the catalogues and which opt-outs may be undone."""

from enum import Enum


class Source(Enum):
    """The sender of data. REST may undo an opt-out made by REST; a browser may undo none (behaviour 4.11)."""

    REST = "rest"
    # A visitor, or a user without a valid user_hash. Such data can be forged.
    BROWSER = "browser"
    # The browser of a user with a valid user_hash.
    PROVED_BROWSER = "proved browser"

    @property
    def is_browser(self) -> bool:
        """Whether a page sent the data, not the customer's server."""
        return self is not Source.REST


# A source may add a name while the catalogue has fewer names than this. The last 50 places are reserved for the
# customer's server and for staff.
MAX_ATTRIBUTES = 250
MAX_FROM_BROWSERS = 200
CATALOGUE_LIMITS: dict[Source, int] = {
    Source.REST: MAX_ATTRIBUTES,
    Source.PROVED_BROWSER: MAX_FROM_BROWSERS,
    Source.BROWSER: 0,
}
