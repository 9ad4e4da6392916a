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

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from grokphase._checks import FloatArray, choice
from grokphase.transition._column_names import Names, guess_names
from grokphase.transition._event_files import event_files, read_scalars
from grokphase.transition._run_series import Series, dense, numbers
from grokphase.transition._tables import KINDS, Columns, column_names, missing, read_columns

__all__ = ["find_names", "read_runs"]

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
    paths = _paths(source)
    if paths is not None:
        runs = _from_files(paths, time, wanted, member, resume=resume)
    elif isinstance(source, xr.Dataset):
        runs = _from_dataset(source, time, train, test, member)
    elif _is_table(source):
        runs = _from_columns(source, time, wanted, member, resume=resume)
    else:
        raise _no_source(source)
    return _with_errors(runs, train, test, values)


def find_names(
    source: Any,
    *,
    time: str | None = None,
    train: str | None = None,
    test: str | None = None,
    member: str | None = None,
) -> Names:
    """Arguments of :func:`read_runs`, those left out found by the names of the columns.

    Parameters
    ----------
    source, time, train, test, member
        As for :func:`read_runs`; None: to be found, if the names leave no doubt.

    Returns
    -------
    Names
        ``.time``, ``.train``, ``.test``, ``.member``.

    Raises
    ------
    ValueError
        If there is a doubt; the message lists the columns.

    Examples
    --------
    >>> find_names({"epoch": [0, 1], "accuracy": [0.5, 1.0], "val_accuracy": [0.5, 0.75], "loss": [1.0, 0.1]})
    Names(time='epoch', train='accuracy', test='val_accuracy', member=None)
    """
    paths = _paths(source)
    if paths is None:
        if not isinstance(source, xr.Dataset) and not _is_table(source):
            raise _no_source(source)
        columns = source.variables if isinstance(source, xr.Dataset) else getattr(source, "columns", source)
        return guess_names("the table", [str(name) for name in columns], time, train, test, member)
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
    where = str(paths[0]) if len(paths) == 1 else "each of these"
    if any(map(_holds_events, paths)):  # they have steps, and a folder for each run
        if train is not None and test is not None:
            return Names(time or "step", train, test, member)
        names = _common([_tags(path) if _holds_events(path) else column_names(path) for path in paths])
        return guess_names(where, names, time or "step", train, test, member)._replace(member=member)
    return guess_names(where, _common([column_names(path) for path in paths]), time, train, test, member)


def _common(names: list[list[str]]) -> list[str]:
    return [name for name in names[0] if all(name in others for others in names)]


# --- sources ---


def _paths(source: Any) -> list[Path] | None:
    """Files and folders, if that is what the source is."""
    if isinstance(source, str | Path):
        return [Path(source)]
    if isinstance(source, Sequence) and source and all(isinstance(path, str | Path) for path in source):
        return [Path(path) for path in source]
    return None


def _is_table(source: Any) -> bool:
    return isinstance(source, Mapping) or (hasattr(source, "columns") and hasattr(source, "to_numpy"))


def _no_source(source: Any) -> ValueError:
    return ValueError(f"source must be a path, a table, a mapping of arrays or a dataset, got {type(source).__name__}")


def _holds_events(path: Path) -> bool:
    return path.is_dir() or "tfevents" in path.name


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
    parts: dict[Any, dict[str, tuple[FloatArray, FloatArray]]] = {}
    without: list[str] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        if _holds_events(path):
            if member is not None:
                raise ValueError(f"{path} holds event files, which tell runs apart by folders: leave member out")
            found, lacking = _event_runs(path, wanted)
            without += lacking
        else:
            needed = [time, *wanted, *([member] if member is not None else [])]
            found = _by_member(read_columns(path, needed), time, wanted, member)
        if len(paths) == 1:
            parts = found
        else:
            one = len(found) == 1 and member is None
            parts |= {str(path) if one else f"{path}/{name}": series for name, series in found.items()}
    unit = "step" if all(map(_holds_events, paths)) else time
    runs = _assembled(parts, resume=resume, source=", ".join(map(str, paths)), time=unit)
    return runs.assign_attrs(folders_without=", ".join(without))


def _event_folders(path: Path) -> dict[str, list[Path]]:
    """Event files by the folder they are in."""
    if path.is_file():
        return {path.name: [path]}
    folders = {str(folder.relative_to(path)): event_files(folder) for folder in [path, *path.rglob("*/")]}
    folders = {
        path.name if name == "." else name: folders[name] for name in sorted(folders, key=_counting) if folders[name]
    }
    if not folders:
        tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() in KINDS)
        instead = f": name the files in it, such as {path / tables[0]}" if tables else ""
        raise ValueError(f"{path} holds no TensorBoard event files{instead}")
    return folders


def _tags(path: Path) -> list[str]:
    """Of all runs, in the order they were first written."""
    found = (read_scalars(files) for files in _event_folders(path).values())
    tags = list(dict.fromkeys(tag for scalars in found for tag in scalars))
    if not tags:
        raise ValueError(f"{path} holds no TensorBoard scalars")
    return tags


def _event_runs(path: Path, wanted: list[str]) -> tuple[dict[Any, dict[str, tuple[FloatArray, FloatArray]]], list[str]]:
    """Times and values of every run that has all that is wanted, and the names of those that have only a part of it."""
    runs: dict[Any, dict[str, tuple[FloatArray, FloatArray]]] = {}
    lacking, tags = [], set()
    for name, files in _event_folders(path).items():
        scalars = read_scalars(files)
        tags |= set(scalars)
        if set(wanted) <= set(scalars):
            runs[name] = {tag: scalars[tag] for tag in wanted}
        elif set(wanted) & set(scalars):
            lacking.append(name)
    if not runs:
        raise missing(str(path), wanted, sorted(tags))
    return runs, lacking


def _by_member(
    columns: Columns, time: str, wanted: list[str], member: str | None
) -> dict[Any, dict[str, tuple[FloatArray, FloatArray]]]:
    """Times and values of every variable, by member in ascending order."""
    moments = numbers(time, columns[time])
    series = {name: numbers(name, columns[name]) for name in wanted}
    nothing = np.isnan(moments) & np.all([np.isnan(column) for column in series.values()], axis=0)
    if nothing.any():  # a line of notes, or the unfinished last one of a job that was killed
        kept = {name: np.asarray(column)[~nothing] for name, column in columns.items()}
        return _by_member(kept, time, wanted, member)
    unknown = np.flatnonzero(~np.isfinite(moments))
    if unknown.size:
        raise ValueError(f"{time!r} is missing or infinite in {unknown.size} rows, first in row {unknown[0] + 1}")
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
    if labels.dtype.kind != "U":
        return labels.tolist(), codes
    order = np.array(sorted(range(labels.size), key=lambda place: _counting(str(labels[place]))), dtype=np.intp)
    return labels[order].tolist(), np.argsort(order)[codes]


def _counting(label: str) -> list[tuple[int, str]]:
    """Key that sorts "seed2" before "seed10"."""
    parts = re.split(r"(\d+)", label)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _time_attributes(name: str) -> dict[str, str]:
    return {"long_name": name, "symbol": "t", "units": "1"}


def _assembled(
    parts: Mapping[Any, dict[str, tuple[FloatArray, FloatArray]]], *, resume: bool, source: str, time: str
) -> xr.Dataset:
    if not parts:
        raise ValueError(f"{source} has no rows")
    names = list(next(iter(parts.values())))
    for name in names:
        if all(np.isnan(columns[name][1]).all() for columns in parts.values()):
            raise ValueError(f"{name!r} holds no number")
    # A run in which one of the errors was never recorded has not failed to reach its zero: nothing is known.
    errors = names[:2]
    members = [label for label, columns in parts.items() if not _never_recorded(columns, errors)]
    if not members:
        raise ValueError(f"no run has numbers of both {errors[0]!r} and {errors[1]!r}")
    series = {}
    for name in names:
        columns = [parts[label][name] for label in members]
        codes = np.repeat(np.arange(len(members)), [len(moments) for moments, _ in columns])
        series[name] = Series(codes, *(np.concatenate(pieces) for pieces in zip(*columns, strict=True)))
    table = dense(series, [str(label) for label in members], resume=resume)
    attributes = {
        "source": source,
        "rows": max(rows.time.size for rows in series.values()),
        "rows_superseded": table.superseded,
        "resumed": ", ".join(table.resumed),
        "runs_without": ", ".join(str(label) for label in parts if label not in members),
    }
    data = {name: (("member", "time"), values) for name, values in table.values.items()}
    coordinates = {"member": members, "time": ("time", table.time, _time_attributes(time))}
    return xr.Dataset(data, coordinates, attributes)


def _never_recorded(columns: dict[str, tuple[FloatArray, FloatArray]], names: list[str]) -> bool:
    return any(bool(np.isnan(columns[name][1]).all()) for name in names)


# --- errors ---


def _with_errors(runs: xr.Dataset, train: str, test: str, values: str | None) -> xr.Dataset:
    """The same with errors between 0 and 1 under their own names."""
    columns = {name: numbers(name, runs[name].to_numpy()) for name in (train, test)}
    for name, column in columns.items():
        if np.isinf(column).any() or np.isnan(column).all():
            raise ValueError(f"{name!r} must hold finite numbers")
    percent = _in_percent(columns, runs["member"].to_numpy()) if values is None else values.endswith("percent")
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
        if "loss" in name.lower():
            raise ValueError(
                f"{name!r} looks like a loss, which does not tell when the error is zero: name an accuracy or an "
                "error, or say that it is one (values='error')"
            )
        raise ValueError(f"{name!r} may be an error or an accuracy: say which (values='error' or values='accuracy')")
    return found[0]


def _in_percent(columns: dict[str, FloatArray], members: Any) -> bool:
    largest = {name: float(np.nanmax(column)) for name, column in columns.items()}
    above = [name for name, value in largest.items() if value > 1 + _ROUNDING]
    if len(above) == 1 and largest[above[0]] <= 100 + 100 * _ROUNDING:
        other = next(name for name in columns if name not in above)
        raise ValueError(
            f"{above[0]!r} reaches {largest[above[0]]:g} but {other!r} never exceeds {largest[other]:g}: is that "
            "percent? Say which (values='accuracy percent', 'error percent', 'accuracy' or 'error')"
        )
    if above:  # runs of different origin may have different units; 0 is the same in both
        by_run = np.fmax.reduce(list(columns.values())).max(axis=-1, initial=-np.inf, where=_recorded(columns))
        fractions = np.flatnonzero((by_run > 0) & (by_run <= 1 + _ROUNDING))
        if fractions.size:
            raise ValueError(
                f"numbers of run {members[fractions[0]]} never exceed {by_run[fractions[0]]:g}, those of others reach "
                f"{by_run.max():g}: is all of it percent? Say so (values='accuracy percent' or 'error percent'), or "
                "bring all runs to one unit"
            )
    return bool(above)


def _recorded(columns: dict[str, FloatArray]) -> Any:
    return np.logical_or.reduce([~np.isnan(column) for column in columns.values()])
