"""Every call of the REST API, and its refusals."""

import re

from config.openapi import ADDRESS_OF, CALLS

# Method and path of each call; paths of one object have the key 7.
CALLED = [
    (method, "/" + re.sub(r"\(\?P<\w+>[^)]*\)", "7", place))
    for view, place in ADDRESS_OF.items()
    for method in CALLS[view]
]


def refusal(answer) -> dict[str, str]:
    """Return the only error of a 400."""
    sent = answer.json()
    assert (answer.status_code, sent["type"]) == (400, "error.list"), sent
    return sent["errors"][0]
