"""Image dimensions, read from the first bytes."""

import struct
import zlib

import pytest

from delivery.conversations.attachments import image_dimensions


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(width: int, height: int, *, frame: int = 0xC0, before: bytes = b"") -> bytes:
    return b"\xff\xd8" + before + segment(frame, struct.pack(">BHHB", 8, height, width, 3) + b"\0" * 9)


def riff(kind: bytes, data: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(data) + 12) + b"WEBP" + kind + struct.pack("<I", len(data)) + data


NONE = [b"", b"<svg/>", png(0, 5), b"\xff\xd8" + b"\xff" * 100, b"\xff\xd8\x00\x00", b"RIFF" * 9]
IMAGES = {
    "png": png(640, 480),
    "gif": b"GIF89a" + struct.pack("<HH", 640, 480) + b"\0" * 5,
    "jpeg": jpeg(640, 480),
    "jpeg in steps": jpeg(640, 480, frame=0xC2),
    "jpeg of a camera": jpeg(
        640, 480, before=segment(0xE1, b"Exif" + jpeg(9, 9)) + segment(0xC4, b"\0" * 30) + b"\xff"
    ),
    "webp with losses": riff(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 640 | 1 << 14, 480) + b"\0" * 8),
    "webp without": riff(b"VP8L", b"\x2f" + struct.pack("<I", 639 | 479 << 14) + b"\0" * 8),
    "webp with more": riff(b"VP8X", b"\0\0\0\0" + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")),
}


@pytest.mark.parametrize("name", IMAGES)
def test_size_of_each_image_type(name):
    assert image_dimensions(IMAGES[name]) == (640, 480)


@pytest.mark.parametrize("name", IMAGES)
def test_truncated_image_has_no_size(name):
    whole = IMAGES[name]
    found = [image_dimensions(whole[:end]) for end in range(len(whole))]

    assert set(found) <= {None, (640, 480)}
    assert found[8] is None


@pytest.mark.parametrize("data", NONE)
def test_other_file_has_no_size(data):
    assert image_dimensions(data) is None
