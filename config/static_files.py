"""The version of the static files."""

import hashlib
from pathlib import Path


def digest_of_files(folder: Path) -> str:
    """Return a short digest of the names and contents of all files below the folder; the same on every machine."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
