r"""Scalars in TensorBoard event files, without TensorBoard.

Format.  A file is a sequence of records: length (8 bytes, little endian), its checksum (4), that many bytes, their
checksum (4).  The bytes are an ``Event`` protocol buffer: step (field 2) and summary (5), a list of values (1) with
tag (1) and either a single number (``simple_value``, 2, float32) or a tensor (8) of dtype (1) float32 or float64
and its content (4, raw bytes; 5 and 6, lists).

Conventions.  The files of a folder are read in the order of their names, which begin with the time they were
opened; a number without a step field was written at step 0.  An unfinished record at the end of a file is left out:
a job that was killed leaves one.

Exact: numbers are those written.  Checksums are not verified; a length that exceeds the file ends it.

References: TensorFlow, ``core/lib/io/record_writer.h``, ``core/util/event.proto``, ``core/framework/summary.proto``
and ``tensor.proto``.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from grokphase._checks import FloatArray

__all__ = ["event_files", "read_scalars"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FLOAT32, _FLOAT64 = 1, 2  # TensorFlow's numbers for its types


def event_files(folder: Path) -> list[Path]:
    """Event files in a folder (not in its subfolders), in the order they were written."""
    return sorted(path for path in folder.iterdir() if path.is_file() and "tfevents" in path.name)


def read_scalars(files: list[Path]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Steps and values of every tag, in the order they were written."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for path in files:
        content = path.read_bytes()
        try:
            for start, end in _records(content):
                for tag, step, value in _event(content, start, end):
                    steps, values = found.setdefault(tag, ([], []))
                    steps.append(step)
                    values.append(value)
        except (IndexError, struct.error, UnicodeDecodeError):
            raise ValueError(f"{path} is damaged, or no TensorBoard event file") from None
    return {tag: (np.array(steps, dtype=float), np.array(values)) for tag, (steps, values) in found.items()}


def _records(content: bytes) -> Iterator[tuple[int, int]]:
    place = 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        start, end = place + 12, place + 12 + length
        if end + 4 > len(content):
            return
        yield start, end
        place = end + 4


def _fields(content: bytes, place: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and either the value (varint) or the place of the content, and its end."""
    while place < end:
        key, place = _varint(content, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield key >> 3, kind, value, place
            continue
        if kind == _BYTES:
            length, place = _varint(content, place)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise IndexError
        if place + length > end:
            raise IndexError
        yield key >> 3, kind, place, place + length
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


def _event(content: bytes, start: int, end: int) -> Iterator[tuple[str, int, float]]:
    step, summaries = 0, []
    for number, kind, value, stop in _fields(content, start, end):
        if number == 2 and kind == _VARINT:
            step = value - (1 << 64) if value >> 63 else value  # a signed number
        elif number == 5 and kind == _BYTES:
            summaries.append((value, stop))
    for summary in summaries:
        for number, kind, value, stop in _fields(content, *summary):
            if number == 1 and kind == _BYTES:
                tag, scalar = _value(content, value, stop)
                if scalar is not None:
                    yield tag, step, scalar


def _value(content: bytes, start: int, end: int) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, kind, value, stop in _fields(content, start, end):
        if number == 1 and kind == _BYTES:
            tag = content[value:stop].decode()
        elif number == 2 and kind == _FIXED32:
            (scalar,) = struct.unpack_from("<f", content, value)
        elif number == 8 and kind == _BYTES:
            scalar = _tensor(content, value, stop)
    return tag, scalar


def _tensor(content: bytes, start: int, end: int) -> float | None:
    """Its number, if it is a single one of type float."""
    dtype, data = 0, b""
    for number, kind, value, stop in _fields(content, start, end):
        if number == 1 and kind == _VARINT:
            dtype = value
        elif number in (4, 5, 6) and kind != _VARINT:
            data = content[value:stop]
    layout = {_FLOAT32: "<f", _FLOAT64: "<d"}.get(dtype)
    if layout is None or len(data) != struct.calcsize(layout):
        return None
    (scalar,) = struct.unpack(layout, data)
    return float(scalar)
