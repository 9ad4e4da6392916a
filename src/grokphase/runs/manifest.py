"""The manifest of a store: what is finished, with checksums, as a text file that only ever grows.

One line an entry, ``<checksum of the rest> <JSON>``; a later entry of a block replaces an earlier one.  A line
that was cut off or damaged fails its checksum and counts as not written, so that its block is computed again.
Entries are written after the files that they list.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from grokphase.runs.files import File

__all__ = ["Finished", "Frame", "Manifest", "Session"]


@dataclass(frozen=True)
class Session:
    """One call that worked on the store: when it began (seconds since 1970), with how many workers."""

    started: float
    workers: int


@dataclass(frozen=True)
class Finished:
    """A block that is finished.

    ``steps``: optimiser steps of all its members; ``seconds``: time its worker took; ``finished``: when
    (seconds since 1970); ``workers``: how many were at work then; ``made_by``: versions, device, host.
    """

    block: int
    members: int
    steps: int
    seconds: float
    finished: float
    workers: int
    made_by: dict[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class Frame:
    """Files that belong to all blocks (metadata, coordinates), and the variables in their order."""

    variables: tuple[str, ...]
    files: tuple[File, ...]


class Manifest:
    """What a store's manifest says; nothing if there is none.

    Attributes
    ----------
    frame
        What belongs to all blocks, or None.
    blocks
        Finished blocks by number.
    session
        The last session, or None.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.frame: Frame | None = None
        self.blocks: dict[int, Finished] = {}
        self.session: Session | None = None
        if path.exists():
            for line in path.read_bytes().splitlines():
                self._take(line)

    def add(self, entry: Frame | Finished | Session) -> None:
        """Write an entry, for good when this returns."""
        self._append({"kind": type(entry).__name__.lower(), **asdict(entry)})

    def retract_block(self, block: int) -> None:
        """A block was found damaged."""
        self._append({"kind": "damaged block", "block": block})

    def retract_frame(self) -> None:
        """What belongs to all blocks was found damaged."""
        self._append({"kind": "damaged frame"})

    def _append(self, entry: dict[str, Any]) -> None:
        text = json.dumps(entry, ensure_ascii=False).encode()
        line = _checksum(text) + b" " + text + b"\n"
        with self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    line = b"\n" + line  # after an entry that was cut off
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._take(line.strip())

    def _take(self, line: bytes) -> None:
        checksum, _, text = line.partition(b" ")
        if not text or checksum != _checksum(text):
            return
        entry = json.loads(text)
        kind = entry.pop("kind")
        if kind == "session":
            self.session = Session(**entry)
        elif kind == "frame":
            self.frame = Frame(tuple(entry["variables"]), _files(entry["files"]))
        elif kind == "damaged frame":
            self.frame = None
        elif kind == "damaged block":
            self.blocks.pop(entry["block"], None)
        elif kind == "finished":
            self.blocks[entry["block"]] = Finished(**entry | {"files": _files(entry["files"])})


def _files(entries: Sequence[Sequence[Any]]) -> tuple[File, ...]:
    return tuple(File(*entry) for entry in entries)


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
