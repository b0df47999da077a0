"""Search for customers: by the start of a word in the name, the start of the address, or the exact ID.

Each part of the search reads a btree index in its order, up to the limit. So a search reads few rows, however many
customers there are. One index holds the words of the names, others begin with a later word of them. Indexes cost less
than a table of words, which imports would have to fill by triggers.
"""

import re

from django.db import connection

MAX_ID_DIGITS = 18
# The name in lower case. Its words are separated by spaces and hyphens; to recognize more would slow down each write.
NAME = "audiences_name_words(name)"
# The places of the words with which an index begins, and the least number of words of the names in it.
LATER_WORDS = {2: 2, 3: 3, 4: 4, -1: 5}
# Each indexed expression and the condition of its index, as in migration 0050.
NAME_INDEXES = {NAME: "name <> ''"} | {
    f"(split_part({NAME}, ' ', {place}) || ' ' || {NAME})": f"split_part({NAME}, ' ', {count}) <> ''"
    for place, count in LATER_WORDS.items()
}
BY_ID = "(SELECT id FROM audiences_customer WHERE {} LIMIT %(limit)s)"
BY_ADDRESS = """(SELECT id FROM audiences_customer WHERE email LIKE lower(%(address)s) || '%%'
    ORDER BY email USING ~<~ LIMIT %(limit)s)"""
BY_NAME = """(SELECT id FROM audiences_customer WHERE {condition}
    AND {term} COLLATE "C" LIKE lower(%(start)s) || '%%' {more} ORDER BY {term} COLLATE "C" LIMIT %(limit)s)"""


def find_keys(typed: str, *, limit: int) -> list[int]:
    """Return the keys of at most `limit` customers: those with this ID first, then by name, then by address."""
    typed = typed.replace("\0", "").strip()
    if not typed:
        return []
    parts = [BY_ID.format("user_id = %(typed)s")]
    if typed.isascii() and typed.isdecimal() and len(typed) <= MAX_ID_DIGITS:
        parts.append(BY_ID.format("id = %(typed)s::bigint"))
    words = [] if "@" in typed else typed.replace("-", " ").split()
    parts += name_parts() if words else []
    parts.append(BY_ADDRESS)
    found = run(parts, typed=typed, start=" ".join(words), address=typed, limit=limit)
    if len(found) < limit and len(words) > 1:
        # The words are not beside each other, or in another order. The longest word is the rarest.
        more = "".join(f" AND ' ' || {NAME} LIKE '%% ' || lower(%(word{n})s) || '%%'" for n in range(len(words)))
        each = {f"word{n}": word for n, word in enumerate(words)}
        found += run(name_parts(more), start=max(words, key=len), limit=limit, **each)
    return list(dict.fromkeys(found))[:limit]


def name_parts(more: str = "") -> list[str]:
    return [BY_NAME.format(term=term, condition=condition, more=more) for term, condition in NAME_INDEXES.items()]


def run(parts: list[str], *, limit: int, typed: str = "", **patterns: str) -> list[int]:
    """Run the parts as one statement, in this order; the patterns are texts in which no character is special."""
    escaped = {name: re.sub(r"[\\%_]", r"\\\g<0>", text) for name, text in patterns.items()}
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(parts), {"typed": typed, "limit": limit, **escaped})
        return [key for (key,) in cursor.fetchall()]
