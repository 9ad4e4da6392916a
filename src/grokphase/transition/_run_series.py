r"""From rows of a log to one series for every run, on common times.

Rows of one run may stand anywhere among those of others but follow each other in time.  Every variable is taken for
itself: logs often write it in rows of its own.

- A missing number (NaN) is no record.
- Where a row repeats the time of an earlier one, it replaces it.  Where every tenth does, and not always with the same
  number, there is more than one run: refused.
- Where time goes back, the run was restarted from there: earlier rows with this time or later ones were given up,
  and are left out.  Back to the beginning of the run, or at every tenth row, it is more likely another run, or a
  table that is not in order: refused.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["Dense", "Series", "dense", "numbers"]

_MOST_RESTARTS = 0.1  # of the rows
_MOST_REPEATED = 0.1  # of the rows
_LARGEST_RATIO = 20  # of the cells of the dense table to records
_SMALL_TABLE = 10_000_000
_LONGEST_SHOWN = 60  # characters of an entry


class Series(NamedTuple):
    """Rows of one variable: number of the member, time, value."""

    member: NDArray[np.int64]
    time: FloatArray
    value: FloatArray

    def take(self, rows: NDArray[Any]) -> "Series":
        """Some of the rows."""
        return Series(self.member[rows], self.time[rows], self.value[rows])


@dataclass(frozen=True, eq=False)
class Dense:
    """Values on common times, shape (member, time), NaN where there is no record; and what was left out."""

    time: FloatArray
    values: dict[str, FloatArray]
    superseded: int
    resumed: list[str]


def numbers(name: str, column: Any) -> FloatArray:
    """A column as float64, NaN where it is empty; raises ``ValueError`` for the first entry that is no number."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    out = np.empty(array.shape)
    for place, entry in enumerate(array.reshape(-1)):
        text = entry.strip() if isinstance(entry, str) else entry
        try:
            out.reshape(-1)[place] = np.nan if text is None or text == "" else float(text)
        except (TypeError, ValueError):
            shown = str(entry)
            shown = repr(shown if len(shown) <= _LONGEST_SHOWN else f"{shown[: _LONGEST_SHOWN - 3]}...")
            raise ValueError(f"{name!r} must hold numbers, got {shown} in row {place + 1}") from None
    return out


def dense(series: dict[str, Series], members: list[str], *, resume: bool) -> Dense:
    """Common times and values of every variable; see the header for what is left out or refused."""
    superseded = np.zeros(len(members), dtype=np.int64)
    resumed: set[str] = set()
    kept = {}
    for name, rows in series.items():
        recorded = np.flatnonzero(~np.isnan(rows.value))
        rows = rows.take(recorded[np.argsort(rows.member[recorded], kind="stable")])
        valid, restarted = _not_given_up(name, rows, members, resume=resume)
        given_up = np.bincount(rows.member[~valid], minlength=len(members))
        superseded = np.maximum(superseded, given_up)  # a row is one, however many columns it has
        resumed |= restarted
        kept[name] = rows.take(valid)
        _refuse_mixed_runs(name, kept[name], members)

    time = np.unique(np.concatenate([rows.time for rows in kept.values()]))
    records = sum(rows.time.size for rows in kept.values())
    cells = len(members) * time.size * len(kept)
    if cells > max(_SMALL_TABLE, _LARGEST_RATIO * records):
        raise ValueError(
            f"{len(members)} runs are recorded at {time.size} different times, hardly any of them shared: "
            "log all runs at the same times, or round the times"
        )
    values = {}
    for name, rows in kept.items():
        table = np.full((len(members), time.size), np.nan)
        table[rows.member, np.searchsorted(time, rows.time)] = rows.value  # of repeated times, the last row stays
        values[name] = table
    return Dense(time, values, int(superseded.sum()), sorted(resumed))


def _refuse_mixed_runs(name: str, rows: Series, members: list[str]) -> None:
    """Raise if many rows of a member say different things of the same time; rows are grouped by member."""
    order = np.lexsort((rows.time, rows.member))  # stable: rows of the same time stay in order
    member, time, value = rows.take(order)
    repeated = (np.diff(member) == 0) & (np.diff(time) == 0)
    differ = repeated & (np.diff(value) != 0)
    if np.count_nonzero(repeated) > _MOST_REPEATED * time.size and np.count_nonzero(differ) > 1:
        place = int(differ.argmax())
        raise ValueError(
            f"{name!r} has different numbers for the same time {time[place]:g} of run {members[member[place]]}: name "
            "the column that tells runs apart (member=), or a time that grows from row to row"
        )


def _not_given_up(name: str, rows: Series, members: list[str], *, resume: bool) -> tuple[NDArray[np.bool_], set[str]]:
    """Which rows are not superseded by a restart, and the members that were restarted."""
    valid = np.ones(rows.time.size, dtype=bool)
    same = rows.member[1:] == rows.member[:-1]
    back = np.flatnonzero(same & (np.diff(rows.time) < 0)) + 1
    if not back.size:
        return valid, set()
    starts = np.searchsorted(rows.member, np.arange(len(members) + 1))
    for member in np.unique(rows.member[back]):
        start, end = starts[member], starts[member + 1]
        jumps = back[(back >= start) & (back < end)]
        time = rows.time[start:end]
        if jumps.size > max(1.0, _MOST_RESTARTS * time.size):
            raise ValueError(f"rows of run {members[member]} (with {name!r}) are not in the order of time: sort them")
        target = rows.time[jumps].min()
        if target <= time[0] and not resume:
            raise ValueError(
                f"time of {name!r} goes back from {rows.time[jumps[0] - 1]:g} to {rows.time[jumps[0]]:g} in run "
                f"{members[member]}: name the column that tells runs apart (member=), or say that it is one run "
                "started anew (restart='resume')"
            )
        # Earliest time that any later restart went back to.
        limit = np.full(time.size + 1, np.inf)
        limit[jumps - start] = rows.time[jumps]
        limit = np.minimum.accumulate(limit[::-1])[::-1]
        valid[start:end] = time < limit[1:]
    return valid, {members[member] for member in np.unique(rows.member[back])}
