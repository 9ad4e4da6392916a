"""Columns of a log file: CSV, JSON lines, Parquet.

Conventions.  A column is what stands under one name, as text or numbers, one entry a row; what is missing is NaN
(or None).  Only the wanted columns are read.  The last line may be unfinished, as a job that was killed leaves it, and
is then left out: of JSON lines if it is no JSON, of CSV if it lacks fields and the end of the line.  A line of CSV with
more fields than the header has names is refused, as it is unknown which of them is which.  A JSON file may also be one
array of objects.
"""

import csv
import gzip
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["KINDS", "Columns", "column_names", "listed", "missing", "read_columns"]

Columns = dict[str, Any]

KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
"""Format by the ending of the name; for CSV and JSON lines, ``.gz`` may follow."""

_LINES_AT_A_TIME = 20_000
_MOST_SHOWN = 40  # names in a message
_LONGEST_SHOWN = 60  # characters of a name


def read_columns(path: Path, wanted: Sequence[str]) -> Columns:
    """The wanted columns of a table; raises ``ValueError`` where one is missing or the file is not one."""
    return _format(path).read(path, wanted)


def column_names(path: Path) -> list[str]:
    """Names of all columns, in the order of the file (of JSON: those in its first thousands of lines)."""
    return _format(path).names(path)


def missing(path: str, names: Sequence[str], present: Sequence[str]) -> ValueError:
    """What to say about columns that are not there."""
    lacking = [name for name in names if name not in present]
    return ValueError(f"{path} has no {', '.join(map(repr, lacking))}; it has {listed(present)}")


def listed(names: Sequence[str]) -> str:
    """Names in quotes, in ascending order, not more of them than a reader bears."""
    shown = ", ".join(_shown(name) for name in sorted(names)[:_MOST_SHOWN])
    return shown if len(names) <= _MOST_SHOWN else f"{shown} and {len(names) - _MOST_SHOWN} more"


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_SHOWN else f"{name[: _LONGEST_SHOWN - 3]}...")


class _Format(NamedTuple):
    names: Callable[[Path], list[str]]
    read: Callable[[Path, Sequence[str]], Columns]


def _format(path: Path) -> _Format:
    endings = [ending for ending in path.suffixes if ending != ".gz"]
    kind = KINDS.get(endings[-1].lower()) if endings else None
    if kind is None:
        raise ValueError(f"cannot tell the format of {path.name}: names end with {', '.join(KINDS)}")
    return {
        "csv": _Format(_csv_names, _read_csv),
        "json": _Format(_json_names, _read_json),
        "parquet": _Format(_parquet_names, _read_parquet),
    }[kind]


# --- CSV ---


def _csv_names(path: Path) -> list[str]:
    return _csv_header(path)[0]


def _csv_header(path: Path) -> tuple[list[str], str]:
    """Names of the columns, and what separates them: where there is only one name, other signs than the usual."""
    usual = "\t" if ".tsv" in path.suffixes else ","
    names = _csv_first_line(path, usual)
    if len(names) == 1:
        usual = next((other for other in ",;\t" if other in names[0]), usual)
        names = _csv_first_line(path, usual)
    if len(names) == 1:
        raise ValueError(
            f"{path.name} has a single column, {_shown(names[0])}: columns are separated by commas, semicolons or tabs"
        )
    if all(map(_is_number, names)):
        raise ValueError(f"{path.name} has no names of columns: its first line holds numbers")
    return names, usual


def _csv_first_line(path: Path, separator: str) -> list[str]:
    with _one_line_about(path):
        line = _csv_table(path, separator, header=None, nrows=1, dtype=str, keep_default_na=False)
    return [str(name).strip() for name in line.iloc[0]]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_csv(path: Path, wanted: Sequence[str]) -> Columns:
    header, separator = _csv_header(path)
    if not set(wanted) <= set(header):
        raise missing(path.name, wanted, header)
    for name in wanted:
        if header.count(name) > 1:
            raise ValueError(f"{path.name} has {header.count(name)} columns called {_shown(name)}: rename one")
    places = {name: header.index(name) for name in wanted}
    with _one_line_about(path):
        table = _csv_table(path, separator, header=0, names=range(len(header)), usecols=[*places.values()])
        if _unfinished(path, separator, len(header)):
            table = table.iloc[:-1]
    return {name: table[place].to_numpy() for name, place in places.items()}


def _csv_table(path: Path, separator: str, **options: Any) -> Any:
    pandas = importlib.import_module("pandas")
    return pandas.read_csv(path, sep=separator, skipinitialspace=True, low_memory=False, **options)


def _fields(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.strip("\n")], delimiter=separator, skipinitialspace=True))


def _unfinished(path: Path, separator: str, columns: int) -> bool:
    """Whether the last line lacks both its end and fields; raises ``ValueError`` for one with too many of them."""
    line, most = "", columns - 1
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.count('"') % 2:  # a text of several lines: which of them are rows is not told from here on
                return False
            if line.count(separator) > most and any(_fields(line, separator)[columns:]):
                raise ValueError(f"{path.name}, line {number}, has more fields than the header has names: {columns}")
    return not line.endswith("\n") and bool(line.strip(" \0")) and line.count(separator) < most


@contextmanager
def _one_line_about(path: Path) -> Iterator[None]:
    """Turn what is raised for a file that is no table into one line."""
    errors = importlib.import_module("pandas").errors
    try:
        yield
    except errors.EmptyDataError:
        raise ValueError(f"{path.name} cannot be read as a table: it is empty") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} cannot be read as a table: it is not text in UTF-8") from None
    except (errors.ParserError, gzip.BadGzipFile, EOFError) as problem:
        reason = str(problem).strip().splitlines()[-1]
        raise ValueError(f"{path.name} cannot be read as a table: {reason}") from None


# --- JSON ---


def _json_names(path: Path) -> list[str]:
    first = next(_json_rows(path), [])
    return list(dict.fromkeys(name for row in first for name in row))


def _read_json(path: Path, wanted: Sequence[str]) -> Columns:
    columns: dict[str, list[Any]] = {name: [] for name in wanted}
    present: set[str] = set()
    for rows in _json_rows(path):
        if not set(wanted) <= present:
            present = present.union(*rows)
        for name, column in columns.items():
            column += [row.get(name) for row in rows]
    if not set(wanted) <= present:
        raise missing(path.name, wanted, sorted(present))
    return {name: _column(values) for name, values in columns.items()}


def _json_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Objects of a file, some thousands at a time."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            if file.read(100).lstrip()[:1] == b"[":
                file.seek(0)
                rows = _parsed(file.read())
                if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
                    yield rows
                    return
            file.seek(0)
            start = 0
            while lines := list(islice(file, _LINES_AT_A_TIME)):
                yield _objects(path, lines, start)
                start += len(lines)
    except (gzip.BadGzipFile, EOFError) as problem:
        raise ValueError(f"{path.name} cannot be unpacked: {problem}") from None


def _objects(path: Path, lines: list[bytes], start: int) -> list[dict[str, Any]]:
    """Objects of some lines, the first of which has so many before it."""
    filled = [line for line in lines if line.strip()]
    # All at once is four times as fast as line by line, which is left for saying which line is wrong.
    rows = _parsed(b"[" + b",".join(filled) + b"]")
    if rows is None or len(rows) != len(filled) or not all(type(row) is dict for row in rows):
        return _line_by_line(path, lines, start)
    return rows


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _line_by_line(path: Path, lines: list[bytes], start: int) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(lines, start + 1):
        if not line.strip():
            continue
        row = _parsed(line)
        if row is None and not line.endswith(b"\n"):
            break  # an unfinished last line
        if not isinstance(row, dict):
            what = "JSON" if row is None else "a JSON object"
            shown = line.rstrip()[:40].decode(errors="replace")
            raise ValueError(f"{path.name}, line {number}, is not {what}, one a line: {shown!r}")
        rows.append(row)
    return rows


def _column(values: list[Any]) -> Any:
    """Numbers with NaN for what is missing where that is possible."""
    if set(map(type, values)) <= {bool, int, float, type(None)}:
        return np.array(values, dtype=float)
    column = np.empty(len(values), dtype=object)  # which a list within the list stays a single entry of
    column[:] = values
    return column


# --- Parquet ---


def _parquet_names(path: Path) -> list[str]:
    with _parquet(path) as parquet:
        return [str(name) for name in parquet.read_schema(path).names]


def _read_parquet(path: Path, wanted: Sequence[str]) -> Columns:
    present = _parquet_names(path)
    if not set(wanted) <= set(present):
        raise missing(path.name, wanted, present)
    with _parquet(path) as parquet:
        # Without the metadata of pandas: a frame's index is a column like others.
        table = parquet.read_table(path, columns=list(dict.fromkeys(wanted))).to_pandas(ignore_metadata=True)
    return {name: table[name].to_numpy() for name in wanted}


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """The library, and one line if it is not there or cannot read the file."""
    try:
        library = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(f"{path.name} is a Parquet file: reading it needs pyarrow (pip install pyarrow)") from None
    try:
        yield library
    except (OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise ValueError(f"{path.name} cannot be read as Parquet: {reason}") from None
