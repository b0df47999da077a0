"""Identity verification: whoever a browser claims to be, the customer's own server has signed (product.md 6.3)."""

import hashlib
import hmac


def user_hash(secret: str, who: str) -> str:
    """HMAC-SHA256 in hex of a user_id, else of an email."""
    # Half a surrogate pair, which JSON can hold, is nobody's id; that is for intake to say.
    return hmac.new(secret.encode(), who.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def is_signed(secret: str, *, user_id: object, email: object, given: object) -> bool:
    """Whether a hash is that of the user_id, or of the email where there is none; compared in constant time."""
    who = user_id if user_id not in (None, "") else email
    if who in (None, "") or not isinstance(given, str):
        return False
    # White space around it is taken off when it is read, so what is signed with it could be somebody else's.
    if str(who) != str(who).strip():
        return False
    expected = user_hash(secret, str(who))
    return hmac.compare_digest(expected.encode(), given.lower().encode("utf-8", "replace"))
