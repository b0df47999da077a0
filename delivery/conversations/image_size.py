"""How large an image is, read from its first bytes: PNG, JPEG, GIF and WebP, and nothing is decoded."""

from collections.abc import Callable

Size = tuple[int, int]
# As far into a file as its size is looked for: a camera puts a preview and what it knows before it.
LOOKED_AT = 512 * 1024
# The markers of a JPEG that are followed by its size; C4, C8 and CC among them mean something else.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Those that stand alone.
BARE = frozenset({0x01, *range(0xD0, 0xD9)})


def image_size(data: bytes) -> Size | None:
    """Width and height; None where they cannot be told."""
    for begins, read in READ:
        if data.startswith(begins):
            try:
                width, height = read(data)
            except (IndexError, KeyError, ValueError):
                return None
            return (width, height) if width and height else None
    return None


def png(data: bytes) -> Size:
    """The first chunk says it."""
    if data[12:16] != b"IHDR":
        raise ValueError("no IHDR")
    return big(data, 16, 20), big(data, 20, 24)


def gif(data: bytes) -> Size:
    """The logical screen."""
    return little(data, 6, 8), little(data, 8, 10)


def jpeg(data: bytes) -> Size:
    """The frame, which comes after any number of segments."""
    place = 2
    while True:
        if data[place] != 0xFF:
            raise ValueError("no marker")
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in BARE:
            place += 2
        elif marker in FRAMES:
            return big(data, place + 7, place + 9), big(data, place + 5, place + 7)
        else:
            place += 2 + big(data, place + 2, place + 4)


def webp(data: bytes) -> Size:
    """The first chunk, of which there are three kinds."""
    return WEBP[data[12:16]](data)


WEBP: dict[bytes, Callable[[bytes], Size]] = {
    b"VP8 ": lambda data: (little(data, 26, 28) & 0x3FFF, little(data, 28, 30) & 0x3FFF),
    b"VP8L": lambda data: ((little(data, 21, 25) & 0x3FFF) + 1, (little(data, 21, 25) >> 14 & 0x3FFF) + 1),
    b"VP8X": lambda data: (little(data, 24, 27) + 1, little(data, 27, 30) + 1),
}
READ: tuple[tuple[bytes, Callable[[bytes], Size]], ...] = (
    (b"\x89PNG\r\n\x1a\n", png),
    (b"\xff\xd8", jpeg),
    (b"GIF8", gif),
    (b"RIFF", webp),
)


def big(data: bytes, start: int, end: int) -> int:
    """A number, its largest part first; IndexError where the file has ended."""
    return int.from_bytes(there(data, start, end), "big")


def little(data: bytes, start: int, end: int) -> int:
    """A number, its smallest part first; IndexError where the file has ended."""
    return int.from_bytes(there(data, start, end), "little")


def there(data: bytes, start: int, end: int) -> bytes:
    """The bytes from one place to another, if the file has them."""
    if len(data) < end:
        raise IndexError("the file ends")
    return data[start:end]
