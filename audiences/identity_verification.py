"""Identity verification: the customer's server signs the user_id or email that a browser sends (behaviour 7.3).

A hash proves the signed text exactly as written. Intake may normalize the text to another user's identifier, which the
hash does not prove.
"""

import hashlib
import hmac


def user_hash(secret: str, identifier: str) -> str:
    """Return the HMAC-SHA256, in hex, of a user_id or email."""
    # JSON can contain half a surrogate pair. Intake refuses it later; here it must not raise.
    return hmac.new(secret.encode(), identifier.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def is_signed(secret: str, identifier: str, *, given: object) -> bool:
    """Return whether `given` is the hash of this user_id or email as written. Compare in constant time."""
    if not identifier or not isinstance(given, str):
        return False
    expected = user_hash(secret, identifier)
    return hmac.compare_digest(expected.encode(), given.lower().encode("utf-8", "replace"))
