"""Identity verification: whoever a browser claims to be, the customer's own server has signed (behaviour 7.3).

A hash proves what was signed, to the letter. Somebody else may be the only one with a right to what it is read as.
"""

import hashlib
import hmac


def user_hash(secret: str, who: str) -> str:
    """HMAC-SHA256 in hex of a user_id, else of an email."""
    # Half a surrogate pair, which JSON can hold, is nobody's id; that is for intake to say.
    return hmac.new(secret.encode(), who.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def is_signed(secret: str, who: str, *, given: object) -> bool:
    """Whether a hash is that of this user_id or email, exactly as it is written; compared in constant time."""
    if not who or not isinstance(given, str):
        return False
    expected = user_hash(secret, who)
    return hmac.compare_digest(expected.encode(), given.lower().encode("utf-8", "replace"))
