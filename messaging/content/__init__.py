"""What a message says: its variables, what may stand in it, and how it reads to one person.

check, sanitise               when staff save
variables, uses_company       what a version needs
compile_version               once per version
fill, Compiled.render         per person; version and filled values read the same for ever
"""

from messaging.content.email_layout import Dress, dress_of
from messaging.content.parser import ContentError
from messaging.content.sanitize import paragraphs, sanitise
from messaging.content.template import (
    NO_LINK,
    TRACKING_CLICK,
    TRACKING_OPEN,
    Compiled,
    Layout,
    Rendered,
    compile_version,
    destination,
    is_link,
    without_default,
)
from messaging.content.variables import (
    UNSUBSCRIBE_URL,
    VARIABLES,
    Problem,
    check,
    uses_company,
    variable_values,
    variables,
)

__all__ = [
    "NO_LINK",
    "TRACKING_CLICK",
    "TRACKING_OPEN",
    "UNSUBSCRIBE_URL",
    "VARIABLES",
    "Compiled",
    "ContentError",
    "Dress",
    "Layout",
    "Problem",
    "Rendered",
    "check",
    "compile_version",
    "destination",
    "dress_of",
    "is_link",
    "paragraphs",
    "sanitise",
    "uses_company",
    "variable_values",
    "variables",
    "without_default",
]
