"""Keys of a request body that a call ignores: the header X-Outbound-Ignored-Keys of its response names them.

The document's schema of the body says which keys a call reads. A view adds a key that it reads only in other requests.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from urllib.parse import quote

from audiences.api.base.openapi import Schema

IGNORED_KEYS_HEADER = "X-Outbound-Ignored-Keys"
MAX_NAMED_KEYS = 20
MAX_NAME_LENGTH = 60
# Proxies and clients limit the length of a response's headers, often to 4 or 8 KB for all together.
MAX_HEADER_LENGTH = 2_000
# The characters of a path that need no escape in a header.
PLAIN_CHARACTERS = ".[]$-_@:/"

# The keys of an object, each with the keys of its value; None: the caller chooses them, or the value is not an object.
Keys = Mapping[str, "Keys | None"]


def readable_keys(schema: Schema, *, schemas: Mapping[str, Schema]) -> Keys | None:
    """Return the keys that a body with this schema may have; those of a list are the keys of its entries."""
    if "$ref" in schema:
        return readable_keys(schemas[schema["$ref"].rpartition("/")[2]], schemas=schemas)
    if "items" in schema:
        return readable_keys(schema["items"], schemas=schemas)
    if "properties" not in schema:
        return None
    return {name: readable_keys(inner, schemas=schemas) for name, inner in schema["properties"].items()}


def find_ignored_keys(sent: object, keys: Keys | None, *, path: str = "") -> Iterator[str]:
    """Yield the path of each key that is not read: `subjekt`, `to.name`, `items[].date`."""
    if keys is None:
        return
    if isinstance(sent, Mapping) and str(sent.get("type")).endswith(".list"):
        # A list as the API's own responses wrap it.
        sent = [entry for entries in sent.values() if isinstance(entries, list) for entry in entries]
    if isinstance(sent, list):
        for entry in sent:
            yield from find_ignored_in_object(entry, keys, path=f"{path}[]")
    else:
        yield from find_ignored_in_object(sent, keys, path=path)


def find_ignored_in_object(sent: object, keys: Keys, *, path: str) -> Iterator[str]:
    """Yield the path of each key that is not read. A list is ignored: lists nested in lists have no depth limit."""
    for name, value in sent.items() if isinstance(sent, Mapping) else ():
        place = f"{path}.{name}" if path else str(name)
        if name not in keys:
            yield place
        else:
            yield from find_ignored_keys(value, keys[name], path=place)


def header_value(ignored: Iterable[str]) -> str:
    """Return the paths for the header, each once, in ASCII; after MAX_NAMED_KEYS or 2 KB only their number."""
    names = list(dict.fromkeys(ignored))
    quoted = [quote(name[:MAX_NAME_LENGTH], safe=PLAIN_CHARACTERS, errors="replace") for name in names[:MAX_NAMED_KEYS]]
    lengths = accumulate(len(name) + len(", ") for name in quoted)
    shown = [name for name, length in zip(quoted, lengths, strict=True) if length <= MAX_HEADER_LENGTH]
    more = len(names) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)
