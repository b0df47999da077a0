"""Keys of a request body that a call ignores: the header X-Outbound-Ignored-Keys of its response names them.

The document's schema of the body says which keys a call reads. A view adds a key that it reads only in other requests.
"""

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from audiences.api.base.openapi import Schema

IGNORED_KEYS_HEADER = "X-Outbound-Ignored-Keys"
MAX_NAMED_KEYS = 20
MAX_NAME_LENGTH = 60
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
    if isinstance(sent, list):
        for entry in sent:
            yield from find_ignored_keys(entry, keys, path=f"{path}[]")
    elif isinstance(sent, Mapping) and str(sent.get("type")).endswith(".list"):
        # A list as the API's own responses wrap it.
        for entries in sent.values():
            yield from find_ignored_keys(entries if isinstance(entries, list) else [], keys, path=path)
    elif isinstance(sent, Mapping):
        for name, value in sent.items():
            place = f"{path}.{name}" if path else str(name)
            if name not in keys:
                yield place
            else:
                yield from find_ignored_keys(value, keys[name], path=place)


def header_value(ignored: Iterable[str]) -> str:
    """Return the paths for the header, each once, in ASCII; after MAX_NAMED_KEYS only their number."""
    names = list(dict.fromkeys(ignored))
    shown = [quote(name[:MAX_NAME_LENGTH], safe=PLAIN_CHARACTERS, errors="replace") for name in names[:MAX_NAMED_KEYS]]
    more = len(names) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)
