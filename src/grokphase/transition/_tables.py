"""Columns of a log file: CSV, JSON lines, Parquet.

Conventions.  A column is what stands under one name, as text or numbers, one entry a row; what is missing is NaN
(or None).  Only the wanted columns are read.  The last line of a JSON-lines file may be unfinished, as a job that
was killed leaves it, and is then left out.
"""

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KINDS", "Columns", "read_columns"]

Columns = dict[str, Any]

KINDS = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
}
"""Format by the ending of the name; for CSV and JSON lines, ``.gz`` may follow."""


def read_columns(path: Path, wanted: Sequence[str]) -> Columns:
    """The wanted columns of a table; raises ``ValueError`` where one is missing or the file is not one."""
    endings = [ending for ending in path.suffixes if ending != ".gz"]
    kind = KINDS.get(endings[-1].lower()) if endings else None
    if kind is None:
        raise ValueError(f"cannot tell the format of {path.name}: names end with {', '.join(KINDS)}")
    return {"csv": _read_csv, "json": _read_json_lines, "parquet": _read_parquet}[kind](path, wanted)


def missing(path: str, names: Sequence[str], present: Sequence[str]) -> ValueError:
    """What to say about columns that are not there."""
    lacking = [name for name in names if name not in present]
    return ValueError(f"{path} has no {', '.join(map(repr, lacking))}; it has {', '.join(map(repr, sorted(present)))}")


def _read_csv(path: Path, wanted: Sequence[str]) -> Columns:
    pandas = importlib.import_module("pandas")
    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        header = [str(name).strip() for name in pandas.read_csv(path, sep=separator, nrows=0).columns]
        if not set(wanted) <= set(header):
            raise missing(path.name, wanted, header)
        places = [header.index(name) for name in wanted]
        table = pandas.read_csv(path, sep=separator, usecols=places, header=0, skipinitialspace=True)
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as problem:
        reason = str(problem).strip().splitlines()[-1]
        raise ValueError(f"{path.name} cannot be read as a table: {reason}") from None
    return {str(name).strip(): table[name].to_numpy() for name in table.columns}


def _read_json_lines(path: Path, wanted: Sequence[str]) -> Columns:
    import gzip

    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = content.split(b"\n")
    finished = lines[-1] == b""
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines) and not finished:
                break  # an unfinished last line
            raise ValueError(f"{path.name}, line {number}, is not JSON: {line[:40]!r}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path.name}, line {number}, is not a JSON object: {line[:40]!r}")
        rows.append(row)
    present = set().union(*rows[:1000]) if rows else set()
    if not set(wanted) <= present:
        present = set().union(*rows)  # all of them, to be sure
    if not set(wanted) <= present:
        raise missing(path.name, wanted, sorted(present))
    return {name: _column([row.get(name) for row in rows]) for name in wanted}


def _column(values: list[Any]) -> Any:
    """Numbers with NaN for what is missing where that is possible."""
    if all(value is None or isinstance(value, int | float) for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    return np.array(values, dtype=object)


def _read_parquet(path: Path, wanted: Sequence[str]) -> Columns:
    pandas = importlib.import_module("pandas")
    try:
        table = pandas.read_parquet(path)
    except ImportError:
        raise ValueError(f"{path.name} is a Parquet file: reading it needs pyarrow (pip install pyarrow)") from None
    except (OSError, ValueError) as problem:
        raise ValueError(f"{path.name} cannot be read as Parquet: {str(problem).splitlines()[0]}") from None
    present = [str(name) for name in table.columns]
    if not set(wanted) <= set(present):
        raise missing(path.name, wanted, present)
    return {name: table[name].to_numpy() for name in wanted}
