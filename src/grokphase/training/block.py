r"""Training a block of members of an ensemble, from their first parameters to their last recorded time.

Members are advanced together, WIDTH at a time and a chunk of records at a time; those that have nothing more
to tell leave, and the others close ranks.  What a member shows depends on the scenario and its own number
alone: not on the block, its size or order, on threads, or on when others leave.

When a member stops.  If zero test error was reached by ``duration``, ``observe`` later; else at ``duration``;
or where a number was not finite.  Recorded values after that are NaN.

With a guard (:mod:`grokphase.training.guard`) a member goes back in its parameters, but never in its time.

Zero times are to one epoch.  Training error: the first epoch whose average domain size exceeds the threshold (or
whose error is zero).  Test error: a recorded time is *promising* if the member's probe shows no error (or no right
cell).  Recorded times are looked at 16 epochs together: where the last of them, or two, are promising, random strings
decide about the last promising one (:mod:`grokphase.training.zero_error`).  Only if it is zero do they decide about
those before, from the first one on; the epochs between two recorded times are searched by bisection, with one batch of
strings each.  So a zero that is lost again within 16 epochs can be missed.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from grokphase._checks import integer, real
from grokphase.training import chunk
from grokphase.training.guard import Guard
from grokphase.training.numerics import pinned, root_keys
from grokphase.training.probe import effective_dimension
from grokphase.training.results import APPROACH, STATUS, Results, Snapshots
from grokphase.training.scenario import Scenario
from grokphase.training.zero_error import Strings, is_zero

__all__ = ["run_block"]

_WINDOW_EPOCHS = 16  # between two looks for zero test error
_CHUNK_STEPS = 128  # about so many optimiser steps between two looks at who is done

_Members = NDArray[np.int64]


def run_block(
    scenario: Scenario,
    members: Iterable[int] | None = None,
    *,
    snapshots: Sequence[float | str] = (),
    threads: int = 1,
    chunk_windows: int | None = None,
) -> xr.Dataset:
    """Train some members of an ensemble and record them.

    Parameters
    ----------
    scenario
        What to train.
    members
        Numbers of the members, from 0 to ``scenario.members`` − 1; None: all.
    snapshots
        Times at which parameters and contexts are kept: numbers, of which the nearest recorded time is taken,
        ``"zero_test"`` (the zero test time) or ``"last"`` (the last recorded time).
    threads
        Parts of the block that are computed at the same time.
    chunk_windows
        Multiples of 16 epochs, or of recorded times if these are rarer, that are computed in one go.  Changes
        speed only.

    Returns
    -------
    trajectories
        Dimensions (member, time): ``train_loss``, ``train_error``, ``test_error``, ``effective_dimension``,
        and ``exact_error`` (member, time, length) if asked for; NaN where a member was not followed.  By
        member: ``zero_train_time``, ``zero_test_time`` (infinite: never), ``last_time``, ``status``.  Also
        ``approach_error`` (member, before): the test error at the zero test time and at each of the 32 epochs
        before it, of the same random string; NaN for members without one.
        With snapshots, the variables ``snapshot_*`` (member, snapshot, ...).  With a guard, ``spike_action`` and
        ``returned_to`` (member, time) and ``rollbacks`` (member); recorded is what training went through, states
        that were given up included.

    Raises
    ------
    ValueError
        If a member or a snapshot is out of range.

    Examples
    --------
    >>> scenario = Scenario(30, bond=4, lengths=(3, 4), batch=8, duration=0.05, observe=0.0, test_sites=64)
    >>> run_block(scenario, range(2)).train_loss.shape
    (2, 3)
    """
    numbers = _member_numbers(scenario, members)
    wanted = [_snapshot(scenario, item) for item in snapshots]
    threads = integer("threads", threads, minimum=1, maximum=1024)
    window = max(1, _WINDOW_EPOCHS // scenario.record_every)
    steps = window * scenario.record_every * scenario.steps_per_epoch
    windows = max(1, _CHUNK_STEPS // steps) if chunk_windows is None else chunk_windows
    return _Block(scenario, numbers, wanted, window, integer("chunk_windows", windows, minimum=1)).run(threads)


def _member_numbers(scenario: Scenario, members: Iterable[int] | None) -> _Members:
    given = range(scenario.members) if members is None else members
    numbers = np.array([integer("members", member, maximum=scenario.members - 1) for member in given], dtype=np.int64)
    if not numbers.size or len(set(numbers.tolist())) != numbers.size:
        raise ValueError(f"members must be different numbers, at least one, got {numbers.tolist()}")
    return numbers


def _snapshot(scenario: Scenario, item: float | str) -> float | str:
    if isinstance(item, str):
        if item not in ("zero_test", "last"):
            raise ValueError(f"snapshots must be times, 'zero_test' or 'last', got {item!r}")
        return item
    return real("snapshots", item, minimum=0, maximum=scenario.duration + scenario.observe)


class _Block:
    """The run of one block: states on the host, programs that advance parts of them, and the results so far."""

    def __init__(
        self, scenario: Scenario, numbers: _Members, wanted: list[float | str], window: int, windows: int
    ) -> None:
        self.scenario, self.window, self.chunk_records = scenario, window, window * windows
        self.shape = chunk.program(scenario)
        self.epochs = np.asarray(scenario.record_epochs)
        self.results = Results(scenario, numbers)
        self.snapshots = Snapshots(scenario, numbers, wanted)
        self.stop = np.full(numbers.size, scenario.last_epoch)  # last epoch that is recorded
        self.past: dict[int, NDArray[Any]] = {}  # parameters after the last epochs of members that look for zero
        with pinned(scenario):
            self.inputs = chunk.inputs(scenario)
            self.state = self._first_state()
        self.guard = Guard(scenario, self.state) if scenario.guard else None

    def run(self, threads: int) -> xr.Dataset:
        active = np.arange(self.stop.size)
        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, self.epochs.size, self.chunk_records):
                list(pool.map(self._advance, _parts(active), [first] * active.size))
                active = active[self.results.status[active] == STATUS["running"]]
        found = self.results.dataset(self.snapshots)
        return found if self.guard is None else found.assign(self.guard.variables(self.results.last_record))

    def _first_state(self) -> chunk.State:
        """First states of all members, as arrays of the host."""
        root = jax.random.key_data(root_keys(self.scenario)[0])
        program, numbers = chunk.begin(self.shape), self.results.numbers.astype(np.int32)
        parts = [_host(program(root, _padded(part)), part.size) for part in _parts(numbers)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _advance(self, part: _Members, first: int) -> None:
        """Take some members through one chunk of records, from record ``first`` on, and note what they showed."""
        count = min(self.chunk_records, self.epochs.size - first)  # the last chunk goes on beyond the end
        padded = _padded(part)
        with pinned(self.scenario):
            start = jax.tree.map(lambda leaf: leaf[padded], self.state)
            if self.guard is None:
                program = chunk.run(self.shape, self.chunk_records, self.scenario.record_every)
                moved, seen = program(start, self.inputs)
            else:
                moved, seen = self.guard.advance(part, start, self.inputs, first, self.chunk_records)
            moved, seen = _host(moved, part.size), jax.tree.map(lambda leaf: np.asarray(leaf)[:count], seen)
            jax.tree.map(lambda whole, leaf: whole.__setitem__(part, leaf), self.state, moved)
            self._note_curves(part, slice(first, first + count), seen)
            for place, member in enumerate(part.tolist()):
                self._note_member(member, place, first, seen)

    def _note_curves(self, part: _Members, records: slice, seen: Any) -> None:
        results, size = self.results, part.size
        for name, values in (
            ("train_loss", seen.train_loss),
            ("train_error", seen.train_error),
            ("test_error", seen.test_error),
            ("effective_dimension", effective_dimension(seen.covariance[:, :size])),
        ):
            results.curves[name][part, records] = values[:, :size].T
        results.exact_error[part, records] = np.moveaxis(seen.exact_error[:, :, :size], 2, 0)

    def _note_member(self, member: int, place: int, first: int, seen: Any) -> None:
        """Zero times, snapshots and the end of one member, from a chunk that starts with record ``first``."""
        results, epochs = self.results, self.epochs
        alive = seen.alive[:, place]
        good = alive.size if alive.all() else int(alive.argmin())
        if np.isinf(results.zero_train_epoch[member]):
            self._find_zero_train(member, place, first, good, seen)
        if np.isinf(results.zero_test_epoch[member]):
            self._find_zero_test(member, place, first, good, seen)
            self._note_approach(member, place, first, seen)
        counted = int(np.searchsorted(epochs, self.stop[member], side="right"))  # records up to the stop
        end = min(first + good, counted)
        for record in self.snapshots.records_in(first, end):
            self.snapshots.keep_record(member, record, int(epochs[record]), seen.epoch_rows[record - first, -1, place])
        died = end < min(first + alive.size, counted)
        if died or counted <= first + alive.size:
            found = np.isfinite(results.zero_test_epoch[member])
            results.status[member] = STATUS["non-finite" if died else "observed" if found else "censored"]
            results.last_record[member] = end - 1
            last = max(end - 1, first)
            self.snapshots.keep_named(member, "last", int(epochs[last]), seen.epoch_rows[last - first, -1, place])

    def _find_zero_train(self, member: int, place: int, first: int, good: int, seen: Any) -> None:
        scenario = self.scenario
        if scenario.zero == "error":
            zero = seen.epoch_error[:good, :, place] == 0
        else:
            zero = seen.epoch_domain_size[:good, :, place] > scenario.zero_domain_size
        if zero.any():
            epoch = self._finished(first, int(zero.argmax()))
            # An epoch's values are its own, unless its one step shows all strings: then they are from before it.
            self.results.zero_train_epoch[member] = epoch - (1 if scenario.point_training else 0)
            self.state.hunting[member] = False

    def _find_zero_test(self, member: int, place: int, first: int, good: int, seen: Any) -> None:
        """The first epoch at which strings find the test error zero, looked for at the ends of windows."""
        scenario, gap = self.scenario, self.scenario.record_every
        rows = seen.epoch_rows[:, :, place]

        def strings(epoch: int, batch: int) -> Strings:
            """A batch of strings, so many epochs into the chunk."""
            program, data = chunk.check(self.shape), self.state.key[member]
            record, within = divmod(epoch, gap)
            number = np.int32(self._finished(first + record, within))
            found = program(rows[record, within], data, number, np.int32(batch), self.inputs.table)
            return Strings(*(np.asarray(part) for part in found))

        def zero(record: int) -> bool:
            return is_zero(scenario, partial(strings, (record + 1) * gap - 1))

        latest = int(np.searchsorted(self.epochs, scenario.last_epoch, side="right")) - first  # records in time
        for start in range(0, min(good, latest), self.window):
            window = range(start, min(start + self.window, good, latest))
            promising = [record for record in window if self._promising(float(seen.test_error[record, place]))]
            lasting = promising[-1:] == [window[-1]] or len(promising) > 1
            if not lasting or not zero(promising[-1]):
                continue
            record = next((record for record in promising[:-1] if zero(record)), promising[-1])
            before, found = record * gap - 1, (record + 1) * gap - 1
            while found - before > 1:
                middle = (before + found) // 2
                clean = strings(middle, 0).look_zero(scenario)
                before, found = (before, middle) if clean else (middle, found)
            epoch = self._finished(first + record, found % gap)
            self.results.zero_test_epoch[member] = epoch
            self.stop[member] = epoch + round(scenario.observe / scenario.learning_rate)
            self.snapshots.keep_named(member, "zero_test", epoch, rows[record, found % gap])
            return

    def _note_approach(self, member: int, place: int, first: int, seen: Any) -> None:
        """Test errors at the epochs before zero, once it is found; until then the parameters they will need."""
        rows = seen.epoch_rows[:, :, place].reshape(-1, seen.epoch_rows.shape[-1])
        known = np.concatenate([self.past.pop(member, rows[:0]), rows])
        zero = self.results.zero_test_epoch[member]
        if np.isinf(zero):
            self.past[member] = known[-APPROACH:]
            return
        end = len(known) - len(rows) + int(zero) - self._finished(first, 0) + 1
        wanted = known[max(end - APPROACH - 1, 0) : end][::-1]
        padded = np.concatenate([wanted, np.repeat(wanted[-1:], APPROACH + 1 - len(wanted), axis=0)])
        errors = chunk.approach(self.shape)(padded, self.state.key[member], np.int32(zero), self.inputs.table)
        self.results.approach_error[member, : len(wanted)] = np.asarray(errors)[: len(wanted)]

    def _finished(self, record: int, within: int) -> int:
        """Epochs finished when epoch ``within`` of a record ends."""
        return int(self.epochs[record]) - self.scenario.record_every + within + 1

    def _promising(self, error: float) -> bool:
        everywhere = error > 1 - 1e-6  # one, as compiled code divides it
        return error == 0 or (everywhere and self.scenario.zero == "domain-size")


def _parts(members: NDArray[Any]) -> list[NDArray[Any]]:
    return [members[start : start + chunk.WIDTH] for start in range(0, members.size, chunk.WIDTH)]


def _padded(part: NDArray[Any]) -> NDArray[Any]:
    """Filled up to the programs' width with copies of the last."""
    return np.concatenate([part, np.repeat(part[-1:], chunk.WIDTH - part.size)])


def _host(tree: Any, size: int) -> Any:
    """The first ``size`` members as arrays of the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:size], tree)
