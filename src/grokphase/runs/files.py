"""Files that are there in one piece or not at all, also after a power cut, and whose damage is noticed.

A file is written beside its place, forced to the disk, and renamed; then the folder is forced to the disk.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["File", "intact", "present", "write_durably"]


class File(NamedTuple):
    """Name (relative, with slashes), size and SHA-256 of a file."""

    name: str
    size: int
    digest: str


def write_durably(folder: Path, contents: Mapping[str, bytes], scratch: Path) -> tuple[File, ...]:
    """Write files, each of them in one piece.

    Parameters
    ----------
    folder, contents
        The files by their names in ``folder``.
    scratch
        Folder on the same disk for what is not finished yet.
    """
    scratch.mkdir(exist_ok=True)
    waiting = []
    try:
        for name, content in contents.items():
            waiting.append((scratch / uuid.uuid4().hex, folder / name))
            _write(waiting[-1][0], content)
        places = sorted({place.parent for _, place in waiting})
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        for temporary, place in waiting:
            temporary.replace(place)
        for place in _with_parents(places, folder):
            _force(place)
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
    return tuple(File(name, len(content), _digest(content)) for name, content in contents.items())


def present(folder: Path, file: File) -> bool:
    """Whether the file is there and of the right size: a quick look."""
    try:
        return (folder / file.name).stat().st_size == file.size
    except OSError:
        return False


def intact(folder: Path, file: File) -> bool:
    """Whether the file is there and has the right content, byte by byte."""
    try:
        return _digest((folder / file.name).read_bytes()) == file.digest
    except OSError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _with_parents(places: list[Path], folder: Path) -> list[Path]:
    """The folders and all that lie between them and ``folder``, which may be new as well."""
    above = {parent for place in places for parent in place.parents if folder in (parent, *parent.parents)}
    return sorted({*places, *above}, reverse=True)


def _force(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
