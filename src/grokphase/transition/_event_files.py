r"""Scalars in TensorBoard event files, without TensorBoard.

Format.  A file is a sequence of records: length (8 bytes, little endian), its checksum (4), that many bytes, their
checksum (4).  The bytes are an ``Event`` protocol buffer: step (field 2) and summary (5), a list of values (1) with
tag (1) and either a single number (``simple_value``, 2, float32) or a tensor (8) of dtype (1) float32 or float64
and its content (4, raw bytes; 5 and 6, lists).

Conventions.  The files of a folder are read in the order of their names, which begin with the time they were
opened; a number without a step field was written at step 0.  An unfinished record at the end of a file is left out:
a job that was killed leaves one.

Speed.  Records that differ in nothing but time, step and number are decoded together: the first of them is read field
by field, and those of the same length that agree with it in every other byte have their numbers in the same places.

Exact: numbers are those written.  Checksums are not verified; a length that exceeds the file ends it.

References: TensorFlow, ``core/lib/io/record_writer.h``, ``core/util/event.proto``, ``core/framework/summary.proto``
and ``tensor.proto``.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["event_files", "read_scalars"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FLOAT32, _FLOAT64 = 1, 2  # TensorFlow's numbers for its types
_FEW = 8  # records that are not worth decoding together
_MOST_KINDS, _MOST_MISSES = 50, 5  # of records of one length; and how many of these may be rare
_LONGEST = 1000  # bytes; longer records hold something else
_AT_A_TIME = 50_000

Bytes = NDArray[np.uint8]


class _Number(NamedTuple):
    """A number in a record: tag, type, and where its bytes begin."""

    tag: str
    layout: str
    place: int


class _Event(NamedTuple):
    """A record read field by field: the bytes of time and step (first, end), the step, the numbers."""

    clock: tuple[int, int]
    step_bytes: tuple[int, int]
    step: int
    numbers: list[_Number]


class _Found:
    """Steps and values of every tag, with the place of their record in the file."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[NDArray[np.intp], FloatArray, FloatArray]]] = {}

    def add(self, tag: str, places: NDArray[np.intp], steps: FloatArray, values: FloatArray) -> None:
        self._parts.setdefault(tag, []).append((places, steps, values))

    def series(self) -> dict[str, tuple[FloatArray, FloatArray]]:
        """In the order they were written."""
        out = {}
        for tag, parts in self._parts.items():
            places, steps, values = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.argsort(places, kind="stable")
            out[tag] = steps[order], values[order]
        return out


def event_files(folder: Path) -> list[Path]:
    """Event files in a folder (not in its subfolders), in the order they were written."""
    return sorted(path for path in folder.iterdir() if path.is_file() and "tfevents" in path.name)


def read_scalars(files: list[Path]) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Steps and values of every tag, in the order they were written."""
    parts: dict[str, list[tuple[FloatArray, FloatArray]]] = {}
    for path in files:
        try:
            found = _scalars(path.read_bytes())
        except (IndexError, struct.error, UnicodeDecodeError):
            raise ValueError(f"{path} is damaged, or no TensorBoard event file") from None
        for tag, series in found.items():
            parts.setdefault(tag, []).append(series)
    return {
        tag: (np.concatenate([steps for steps, _ in part]), np.concatenate([values for _, values in part]))
        for tag, part in parts.items()
    }


def _scalars(content: bytes) -> dict[str, tuple[FloatArray, FloatArray]]:
    found = _Found()
    starts, lengths = _records(content)
    octets = np.frombuffer(content, dtype=np.uint8)
    for length in np.unique(lengths):
        of_this_length = np.flatnonzero(lengths == length)
        for first in range(0, of_this_length.size, _AT_A_TIME):
            places = of_this_length[first : first + _AT_A_TIME]
            _decode(content, octets, starts[places], int(length), places, found)
    return found.series()


def _records(content: bytes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the records begin, and their lengths."""
    starts, lengths = [], []
    place, end, length_at = 0, len(content), struct.Struct("<Q").unpack_from
    while place + 12 <= end:
        (length,) = length_at(content, place)
        start = place + 12
        place = start + length + 4
        if place > end:
            break
        starts.append(start)
        lengths.append(length)
    return np.array(starts, dtype=np.intp), np.array(lengths, dtype=np.intp)


# --- many records together ---


def _decode(
    content: bytes, octets: Bytes, starts: NDArray[np.intp], length: int, places: NDArray[np.intp], found: _Found
) -> None:
    """Numbers of records of the same length."""
    rows = octets[starts[:, None] + np.arange(length)] if length <= _LONGEST else octets[:0, None]
    kinds = misses = 0
    while len(rows) > _FEW and kinds < _MOST_KINDS and misses < _MOST_MISSES:
        start = int(starts[0])
        model = _event(content, start, start + length)
        alike = _alike(rows, start, model)
        steps = _steps(rows[alike], model.step_bytes[0] - start, model.step_bytes[1] - start)
        for number in model.numbers:
            begin = number.place - start
            raw = np.ascontiguousarray(rows[alike, begin : begin + struct.calcsize(number.layout)])
            found.add(number.tag, places[alike], steps, raw.view(number.layout)[:, 0].astype(np.float64))
        kinds, misses = kinds + 1, misses + int(np.count_nonzero(alike) <= _FEW)
        rows, starts, places = rows[~alike], starts[~alike], places[~alike]
    for start, place in zip(starts.tolist(), places, strict=True):
        event = _event(content, start, start + length)
        for number in event.numbers:
            (value,) = struct.unpack_from(number.layout, content, number.place)
            found.add(number.tag, np.array([place]), np.array([float(event.step)]), np.array([float(value)]))


def _alike(rows: Bytes, start: int, model: _Event) -> NDArray[np.bool_]:
    """Rows that differ from the first in nothing but time, step and numbers."""
    fixed = np.ones(rows.shape[1], dtype=bool)
    spans = [(number.place, number.place + struct.calcsize(number.layout)) for number in model.numbers]
    for begin, end in [model.clock, model.step_bytes, *spans]:
        fixed[begin - start : end - start] = False
    alike = (rows[:, fixed] == rows[0, fixed]).all(axis=1)
    # Steps of as many bytes: whether another follows is a byte's highest bit.
    step = slice(model.step_bytes[0] - start, model.step_bytes[1] - start)
    alike &= (rows[:, step] >> 7 == rows[0, step] >> 7).all(axis=1)
    return np.asarray(alike)


def _steps(rows: Bytes, begin: int, end: int) -> FloatArray:
    """Signed numbers of variable length, all of the same; 0 if there are no bytes."""
    steps = np.zeros(len(rows), dtype=np.uint64)
    for shift, column in enumerate(rows[:, begin:end].T):
        steps |= (column & 127).astype(np.uint64) << np.uint64(7 * shift)
    return steps.astype(np.int64).astype(np.float64)


# --- one record field by field ---


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


def _event(content: bytes, start: int, end: int) -> _Event:
    clock = step_bytes = (start, start)
    step, before = 0, start
    numbers: list[_Number] = []
    for number, kind, value, stop in _fields(content, start, end):
        if number == 1 and kind == _FIXED64:
            clock = (value, stop)
        elif number == 2 and kind == _VARINT:
            step = value - (1 << 64) if value >> 63 else value  # a signed number
            step_bytes = (before + 1, stop)  # behind the key, which is a single byte
        elif number == 5 and kind == _BYTES:
            numbers += _summary(content, value, stop)
        before = stop
    return _Event(clock, step_bytes, step, numbers)


def _summary(content: bytes, start: int, end: int) -> Iterator[_Number]:
    for number, kind, value, stop in _fields(content, start, end):
        if number == 1 and kind == _BYTES:
            found = _value(content, value, stop)
            if found is not None:
                yield found


def _value(content: bytes, start: int, end: int) -> _Number | None:
    tag, layout, place = "", None, 0
    for number, kind, value, stop in _fields(content, start, end):
        if number == 1 and kind == _BYTES:
            tag = content[value:stop].decode()
        elif number == 2 and kind == _FIXED32:
            layout, place = "<f", value
        elif number == 8 and kind == _BYTES:
            layout, place = _tensor(content, value, stop)
    return None if layout is None else _Number(tag, layout, place)


def _tensor(content: bytes, start: int, end: int) -> tuple[str | None, int]:
    """Type and place of its number, if it is a single one of type float."""
    dtype, place, size = 0, start, 0
    for number, kind, value, stop in _fields(content, start, end):
        if number == 1 and kind == _VARINT:
            dtype = value
        elif number in (4, 5, 6) and kind != _VARINT:
            place, size = value, stop - value
    layout = {_FLOAT32: "<f", _FLOAT64: "<d"}.get(dtype)
    return (layout, place) if layout is not None and size == struct.calcsize(layout) else (None, start)
