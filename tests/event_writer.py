"""TensorBoard event files written after their format's definition, without TensorBoard (checksums are left zero)."""

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

FIXED64, BYTES, FIXED32 = 1, 2, 5  # wire types


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # a negative number takes ten bytes
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([number << 3 | kind]) + (varint(len(content)) if kind == BYTES else b"") + content


def scalar(tag: str, value: float, *, tensor: str = "") -> bytes:
    """A summary's value: a single number, or a tensor of float32 ("f") or float64 ("d")."""
    if tensor:
        dtype = {"f": 1, "d": 2}[tensor]
        held = field(8, BYTES, bytes([8, dtype]) + field(4, BYTES, struct.pack(f"<{tensor}", value)))
    else:
        held = field(2, FIXED32, struct.pack("<f", value))
    return field(1, BYTES, field(1, BYTES, tag.encode()) + held)


def event(step: int, *summaries: bytes, clock: float = 1.7e9) -> bytes:
    """A record; like protocol buffers do, it leaves step 0 out."""
    content = field(1, FIXED64, struct.pack("<d", clock)) + (b"\x10" + varint(step) if step else b"")
    content += field(5, BYTES, b"".join(summaries)) if summaries else b""
    return struct.pack("<QI", len(content), 0) + content + b"\0" * 4


def write_run(folder: Path, steps: Iterable[int], columns: Mapping[str, Iterable[float]]) -> None:
    """One run: every tag at every step (NaN: not written)."""
    folder.mkdir(parents=True)
    rows = zip(steps, *columns.values(), strict=True)
    records = [
        event(int(step), scalar(tag, value), clock=1.7e9 + step)
        for step, *values in rows
        for tag, value in zip(columns, values, strict=True)
        if value == value
    ]
    (folder / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"".join(records))
