r"""Training logs of any origin as one dataset: errors of every run on common times.

The result is an ``xarray.Dataset`` with dimensions ``member`` and ``time``, variables ``train_error`` and
``test_error`` (fractions between 0 and 1, NaN where nothing was recorded), any other variables asked for, and
attributes that say where it comes from and what was left out.  It is what :func:`grokphase.measure` measures; every
simulation of this package makes one of the same form.

Conventions.  Whether numbers are errors or accuracies is told by the names ("acc" or "err" in them), percent by a
value above 1; what cannot be told is refused.  Missing rows, restarts and repeated times:
:mod:`grokphase.transition._run_series`.  Losses are no errors.

Exact: an accuracy of 1 (or 100 percent) is an error of exactly 0.  Event files hold float32: their errors are
rounded by up to 6e-8.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from grokphase._checks import FloatArray, choice
from grokphase.transition._event_files import event_files, read_scalars
from grokphase.transition._run_series import Series, dense, numbers
from grokphase.transition._tables import Columns, missing, read_columns

__all__ = ["read_runs"]

_VALUES = ("error", "accuracy", "error percent", "accuracy percent")
_ROUNDING = 1e-6  # a float32 accuracy may exceed 1 by so much
_LONG_NAMES = {"train_error": ("training error", "E_train"), "test_error": ("test error", "E_test")}


def read_runs(
    source: Any,
    *,
    time: str = "time",
    train: str = "train_error",
    test: str = "test_error",
    member: str | None = None,
    values: str | None = None,
    others: Iterable[str] = (),
    restart: str | None = None,
) -> xr.Dataset:
    """Errors of every run from a log file, a TensorBoard folder, a table or arrays.

    Parameters
    ----------
    source
        A file (CSV, JSON lines or Parquet, by the ending of its name), a folder with TensorBoard event files (or with
        subfolders of them, one a run), or a list of such paths, one a run; a pandas frame; a mapping of columns of
        equal length, or of ``time`` of shape (time,) and errors of shape (member, time); a dataset with these
        dimensions.
    time
        Name of the time: steps, epochs, anything that grows.  Event files have only their step.
    train, test
        Names of the training and the test error, or accuracy.
    member
        Name of what tells runs apart; without it, all is one run (a dataset's dimension ``member`` is found by itself).
    values
        "error", "accuracy", "error percent" or "accuracy percent"; by default told by the names and the largest value.
    others
        Names of further variables to keep, as they are.
    restart
        "resume": a run whose time goes back to its very beginning was started anew.  By default that is refused.

    Returns
    -------
    xarray.Dataset
        Variables ``train_error``, ``test_error`` and ``others``, dimensions (member, time).

    Raises
    ------
    ValueError
        In one line, what cannot be read or is ambiguous, and what would help.

    Examples
    --------
    >>> runs = read_runs({"step": [0, 1, 2], "train_acc": [50.0, 90.0, 100.0], "val_acc": [50.0, 60.0, 75.0]},
    ...                  time="step", train="train_acc", test="val_acc")
    >>> runs["test_error"].values
    array([[0.5 , 0.4 , 0.25]])
    """
    if restart is not None:
        choice("restart", restart, ("resume",))
    if values is not None:
        choice("values", values, _VALUES)
    others = list(others)
    wanted = [train, test, *others]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"train, test and others must name different variables, got {', '.join(wanted)}")
    if {"train_error", "test_error"} & set(others):
        raise ValueError("others must not be called train_error or test_error: the result has these already")
    resume = restart == "resume"
    if isinstance(source, xr.Dataset):
        runs = _from_dataset(source, time, train, test, member)
    elif isinstance(source, str | Path):
        runs = _from_files([Path(source)], time, wanted, member, resume=resume)
    elif isinstance(source, Sequence) and source and all(isinstance(path, str | Path) for path in source):
        runs = _from_files([Path(path) for path in source], time, wanted, member, resume=resume)
    elif isinstance(source, Mapping) or (hasattr(source, "columns") and hasattr(source, "to_numpy")):
        runs = _from_columns(source, time, wanted, member, resume=resume)
    else:
        raise ValueError(
            f"source must be a path, a table, a mapping of arrays or a dataset, got {type(source).__name__}"
        )
    return _with_errors(runs, train, test, values)


# --- sources ---


def _from_dataset(source: xr.Dataset, time: str, train: str, test: str, member: str | None) -> xr.Dataset:
    present = [str(name) for name in source.variables]
    if not {time, train, test} <= set(present):
        raise missing("the dataset", [time, train, test], present)
    dimension = source[time].dims
    if len(dimension) != 1:
        raise ValueError(f"{time!r} must have one dimension, got {dimension}")
    runs = source.rename({time: "time"}) if time != "time" else source
    if dimension[0] not in ("time", time):
        runs = runs.swap_dims({dimension[0]: "time"})
    member = "member" if member is None else member
    for name in (train, test):
        rest = [axis for axis in runs[name].dims if axis != "time"]
        if rest not in ([], [member]) or "time" not in runs[name].dims:
            raise ValueError(f"{name!r} must have dimensions ({member}, {time}), got {source[name].dims}")
    if member not in runs.dims:
        runs = runs.expand_dims(member=[0])
    elif member != "member":
        runs = runs.rename({member: "member"})
    if "member" not in runs.coords:
        runs = runs.assign_coords(member=np.arange(runs.sizes["member"]))
    moments = numbers(time, runs["time"].to_numpy())
    if np.isnan(moments).any() or (np.diff(moments) <= 0).any():
        raise ValueError(f"{time!r} must ascend, without repetition")
    return runs.transpose("member", "time", ...)


def _from_columns(source: Any, time: str, wanted: list[str], member: str | None, *, resume: bool) -> xr.Dataset:
    names = [str(name) for name in (source.columns if hasattr(source, "columns") else source)]
    needed = [time, *wanted, *([member] if member is not None else [])]
    if not set(needed) <= set(names):
        raise missing("the table", needed, names)
    columns = {name: np.asarray(source[name]) for name in needed}
    if columns[wanted[0]].ndim == 2:
        return _from_matrices(columns, time, wanted, member)
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or columns[time].ndim != 1:
        raise ValueError(f"columns must be one-dimensional and of equal length, got shapes {shapes}")
    return _assembled(_by_member(columns, time, wanted, member), resume=resume, source="table", time=time)


def _from_matrices(columns: Columns, time: str, wanted: list[str], member: str | None) -> xr.Dataset:
    shape = columns[wanted[0]].shape
    for name in wanted:
        if columns[name].shape != shape or columns[time].shape != shape[1:]:
            raise ValueError(
                f"{name!r} must have shape (member, time) = {(shape[0], *columns[time].shape)}, "
                f"got {columns[name].shape}"
            )
    labels = np.arange(shape[0]) if member is None else columns[member]
    if labels.shape != shape[:1]:
        raise ValueError(f"{member!r} must have shape ({shape[0]},), got {labels.shape}")
    data = {name: (("member", "time"), numbers(name, columns[name])) for name in wanted}
    moments = numbers(time, columns[time])
    return _from_dataset(
        xr.Dataset(data, {"time": ("time", moments, _time_attributes(time)), "member": labels}, {"source": "arrays"}),
        "time",
        wanted[0],
        wanted[1],
        "member",
    )


def _from_files(paths: list[Path], time: str, wanted: list[str], member: str | None, *, resume: bool) -> xr.Dataset:
    parts: dict[str, dict[str, tuple[FloatArray, FloatArray]]] = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        if path.is_dir() or "tfevents" in path.name:
            if member is not None:
                raise ValueError(f"{path} holds event files, which tell runs apart by folders: leave member out")
            found = _event_runs(path, wanted)
        else:
            needed = [time, *wanted, *([member] if member is not None else [])]
            found = _by_member(read_columns(path, needed), time, wanted, member)
        if len(paths) == 1:
            parts = found
        else:
            one = len(found) == 1 and member is None
            parts |= {str(path) if one else f"{path}/{name}": series for name, series in found.items()}
    return _assembled(parts, resume=resume, source=", ".join(map(str, paths)), time=time)


def _event_runs(path: Path, wanted: list[str]) -> dict[Any, dict[str, tuple[FloatArray, FloatArray]]]:
    if path.is_file():
        folders = {path.name: [path]}
    else:
        folders = {str(folder.relative_to(path)): event_files(folder) for folder in [path, *sorted(path.rglob("*/"))]}
        folders = {name: files for name, files in folders.items() if files}
    if not folders:
        raise ValueError(f"{path} holds no TensorBoard event files")
    runs, tags = {}, set()
    for name, files in folders.items():
        scalars = read_scalars(files)
        tags |= set(scalars)
        if set(wanted) <= set(scalars):
            runs[path.name if name == "." else name] = {tag: scalars[tag] for tag in wanted}
    if not runs:
        raise missing(str(path), wanted, sorted(tags))
    return runs


def _by_member(
    columns: Columns, time: str, wanted: list[str], member: str | None
) -> dict[Any, dict[str, tuple[FloatArray, FloatArray]]]:
    """Times and values of every variable, by member in ascending order."""
    moments = numbers(time, columns[time])
    unknown = np.flatnonzero(~np.isfinite(moments))
    if unknown.size:
        raise ValueError(f"{time!r} is missing or infinite in {unknown.size} rows, first in row {unknown[0] + 1}")
    series = {name: numbers(name, columns[name]) for name in wanted}
    for name, column in series.items():
        if np.isinf(column).any():
            raise ValueError(f"{name!r} is infinite in row {np.flatnonzero(np.isinf(column))[0] + 1}")
    if member is None:
        return {0: {name: (moments, column) for name, column in series.items()}}
    labels, codes = _labels(member, columns[member])
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(len(labels) + 1))
    out = {}
    for place, label in enumerate(labels):
        rows = order[ends[place] : ends[place + 1]]
        out[label] = {name: (moments[rows], column[rows]) for name, column in series.items()}
    return out


def _labels(member: str, column: Any) -> tuple[list[Any], Any]:
    """Different entries, ascending, and the number of each row's."""
    array = np.asarray(column)
    empty = np.array([entry is None or entry != entry for entry in array]) if array.dtype.kind in "fO" else None
    if empty is not None and empty.any():
        raise ValueError(f"{member!r} is missing in {np.count_nonzero(empty)} rows, first in row {empty.argmax() + 1}")
    if array.dtype.kind == "O":
        array = array.astype(str)
    labels, codes = np.unique(array, return_inverse=True)
    if labels.dtype.kind == "f" and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    return labels.tolist(), codes


def _time_attributes(name: str) -> dict[str, str]:
    return {"long_name": name, "symbol": "t", "units": "1"}


def _assembled(
    parts: Mapping[Any, dict[str, tuple[FloatArray, FloatArray]]], *, resume: bool, source: str, time: str
) -> xr.Dataset:
    members = list(parts)
    names = list(next(iter(parts.values())))
    series = {}
    for name in names:
        columns = [parts[label][name] for label in members]
        codes = np.repeat(np.arange(len(members)), [len(moments) for moments, _ in columns])
        series[name] = Series(codes, *(np.concatenate(pieces) for pieces in zip(*columns, strict=True)))
        if np.isnan(series[name].value).all():
            raise ValueError(f"{name!r} holds no number")
    table = dense(series, [str(label) for label in members], resume=resume)
    attributes = {
        "source": source,
        "rows": max(rows.time.size for rows in series.values()),
        "rows_superseded": table.superseded,
        "resumed": ", ".join(table.resumed),
    }
    data = {name: (("member", "time"), values) for name, values in table.values.items()}
    coordinates = {"member": members, "time": ("time", table.time, _time_attributes(time))}
    return xr.Dataset(data, coordinates, attributes)


# --- errors ---


def _with_errors(runs: xr.Dataset, train: str, test: str, values: str | None) -> xr.Dataset:
    """The same with errors between 0 and 1 under their own names."""
    columns = {name: numbers(name, runs[name].to_numpy()) for name in (train, test)}
    for name, column in columns.items():
        if np.isinf(column).any() or np.isnan(column).all():
            raise ValueError(f"{name!r} must hold finite numbers")
    percent = _in_percent(columns) if values is None else values.endswith("percent")
    errors = {}
    for name, canonical in ((train, "train_error"), (test, "test_error")):
        kind = _kind(name) if values is None else values.split()[0]
        long_name, symbol = _LONG_NAMES[canonical]
        made_from = f"{kind} {name!r}" + (" in percent" if percent else "")
        attributes = {"long_name": long_name, "symbol": symbol, "units": "1", "made_from": made_from}
        errors[canonical] = (("member", "time"), _error(name, columns[name], kind, percent), attributes)
    replaced = [name for name in {train, test, *errors} if name in runs.data_vars]
    return runs.drop_vars(replaced).assign(errors)


def _error(name: str, column: FloatArray, kind: str, percent: bool) -> FloatArray:
    whole = 100.0 if percent else 1.0
    low, high = float(np.nanmin(column)), float(np.nanmax(column))
    if low < -_ROUNDING * whole or high > whole * (1 + _ROUNDING):
        raise ValueError(f"{name!r} must lie between 0 and {whole:g}, got {low:g} to {high:g}")
    return np.clip((whole - column if kind == "accuracy" else column) / whole, 0.0, 1.0)


def _kind(name: str) -> str:
    found = [kind for kind, part in (("accuracy", "acc"), ("error", "err")) if part in name.lower()]
    if len(found) != 1:
        raise ValueError(f"{name!r} may be an error or an accuracy: say which (values='error' or values='accuracy')")
    return found[0]


def _in_percent(columns: dict[str, FloatArray]) -> bool:
    largest = {name: float(np.nanmax(column)) for name, column in columns.items()}
    above = [name for name, value in largest.items() if value > 1 + _ROUNDING]
    if len(above) == 1 and largest[above[0]] <= 100 + 100 * _ROUNDING:
        other = next(name for name in columns if name not in above)
        raise ValueError(
            f"{above[0]!r} reaches {largest[above[0]]:g} but {other!r} never exceeds {largest[other]:g}: is that "
            "percent? Say which (values='accuracy percent', 'error percent', 'accuracy' or 'error')"
        )
    return bool(above)
