"""What a block of members has shown so far, and the dataset made of it.

Trajectories are arrays (member, record) on the recorded times of the scenario, which are the same for every
block of it; a member's values end with its last record.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import grokphase
from grokphase._checks import FloatArray
from grokphase.student import Attention
from grokphase.training.parameters import Parameters, unflat
from grokphase.training.scenario import SCHEMA, Scenario

__all__ = ["APPROACH", "STATUS", "Results", "Snapshots"]

STATUS = {"running": -1, "censored": 0, "observed": 1, "non-finite": 2}
"""Why a member stopped: no zero test error by ``duration``; observed long enough after it; infinity or NaN."""

APPROACH = 32
"""Epochs before the zero test time at which the test error is looked at afterwards."""

_CONTEXT_CELLS = 1000  # of the random string whose contexts belong to a snapshot

_CURVES = {
    "train_loss": ("training loss without penalties", "L"),
    "train_error": ("fraction of wrong training cells", "E_train"),
    "test_error": ("fraction of wrong cells of long random strings", "E_test"),
    "effective_dimension": ("effective dimension of the left contexts", "D_eff"),
}


class Results:
    """Arrays that fill up while a block runs."""

    def __init__(self, scenario: Scenario, numbers: NDArray[np.int64]) -> None:
        members, records = len(numbers), len(scenario.record_epochs)
        self.scenario, self.numbers = scenario, numbers
        self.curves = {name: np.full((members, records), np.nan, scenario.precision) for name in _CURVES}
        self.exact_error = np.full((members, records, len(scenario.exact_lengths)), np.nan, scenario.precision)
        self.approach_error = np.full((members, APPROACH + 1), np.nan, scenario.precision)  # by epochs before zero
        self.zero_train_epoch = np.full(members, np.inf)
        self.zero_test_epoch = np.full(members, np.inf)
        self.last_record = np.full(members, -1)
        self.status = np.full(members, STATUS["running"], dtype=np.int8)

    def dataset(self, snapshots: Snapshots) -> xr.Dataset:
        """Everything with names, units and the scenario."""
        scenario = self.scenario
        rate, epochs = scenario.learning_rate, np.asarray(scenario.record_epochs)
        beyond = np.arange(len(epochs)) > self.last_record[:, None]
        variables: dict[str, Any] = {}
        for name, (meaning, symbol) in _CURVES.items():
            curve = np.where(beyond, np.nan, self.curves[name]).astype(scenario.precision)
            variables[name] = (("member", "time"), curve, _attributes(meaning, symbol))
        if scenario.exact_lengths:
            errors = np.where(beyond[..., None], np.nan, self.exact_error).astype(scenario.precision)
            about = _attributes("fraction of wrong cells over all inputs of a length", "E_M")
            variables["exact_error"] = (("member", "time", "length"), errors, about)
        about = _attributes("test error before the zero test time, of one string a member", "E_test")
        variables["approach_error"] = (("member", "before"), self.approach_error, about)
        last = np.where(self.last_record >= 0, epochs[self.last_record], 0)
        seen = self.zero_train_epoch <= np.where(last > 0, last, -1)
        for name, values, meaning, symbol in (
            (
                "zero_train_time",
                np.where(seen, self.zero_train_epoch, np.inf),
                "first time of zero training error; inf: never",
                "t_train",
            ),
            ("zero_test_time", self.zero_test_epoch, "first time of zero test error; inf: never", "t_ε"),
            ("last_time", last, "last recorded time", "t"),
        ):
            variables[name] = ("member", values * rate, _attributes(meaning, symbol))
        flags = {name: value for name, value in STATUS.items() if value >= 0}
        variables["status"] = (
            "member",
            self.status,
            {
                **_attributes("why the run stopped", "–"),
                "flag_values": list(flags.values()),
                "flag_meanings": " ".join(flags),
            },
        )
        variables |= snapshots.variables(rate)
        coordinates: dict[str, Any] = {
            "member": ("member", self.numbers, {"long_name": "number of the run in its ensemble"}),
            "time": ("time", epochs * rate, _attributes("learning rate × epochs", "t")),
            "before": (
                "before",
                np.arange(APPROACH + 1) * rate,
                _attributes("time before the zero test time", "t_ε - t"),
            ),
        }
        if scenario.exact_lengths:
            coordinates["length"] = ("length", list(scenario.exact_lengths), _attributes("cells of an input", "M"))
        if snapshots.wanted:
            coordinates["snapshot"] = ("snapshot", [str(item) for item in snapshots.wanted], {})
        attributes = {
            "scenario": scenario.to_text(),
            "schema": SCHEMA,
            "grokphase_version": grokphase.__version__,
            "jax_version": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "precision": scenario.precision,
        }
        return xr.Dataset(variables, coordinates, attributes)


def _attributes(text: str, symbol: str) -> dict[str, Any]:
    return {"long_name": text, "symbol": symbol, "units": "1"}


class Snapshot(NamedTuple):
    """Parameters of one member after some epochs, as a row."""

    epoch: int
    row: NDArray[Any]


def _contexts(parameters: Parameters, numbers: list[int]) -> tuple[FloatArray, FloatArray]:
    """Left and right contexts of all cells of a random string, in double precision."""
    spins = np.random.default_rng(numbers).choice([-1, 1], size=_CONTEXT_CELLS)
    try:
        attention = Attention(parameters.attention, left=parameters.left, right=parameters.right)
        return attention.contexts(spins)
    except ValueError:  # a product of its matrices vanishes
        nothing = np.full((_CONTEXT_CELLS, parameters.left.shape[-1]), np.nan)
        return nothing, nothing


class Snapshots:
    """Parameters and contexts at chosen times: recorded times by number, ``"zero_test"``, ``"last"``."""

    def __init__(self, scenario: Scenario, numbers: NDArray[np.int64], wanted: list[float | str]) -> None:
        epochs = np.asarray(scenario.record_epochs)
        self.scenario, self.numbers, self.wanted = scenario, numbers, wanted
        self.records = {
            place: int(np.abs(epochs * scenario.learning_rate - item).argmin())
            for place, item in enumerate(wanted)
            if not isinstance(item, str)
        }
        self.kept: dict[tuple[int, int], Snapshot] = {}

    def records_in(self, first: int, end: int) -> list[int]:
        """Recorded times that are wanted, among those from ``first`` to before ``end``."""
        return sorted({record for record in self.records.values() if first <= record < end})

    def keep_named(self, member: int, name: str, epoch: int, row: NDArray[Any]) -> None:
        """Keep what is wanted under a name."""
        for place, item in enumerate(self.wanted):
            if item == name:
                self.kept[member, place] = Snapshot(epoch, np.array(row))

    def keep_record(self, member: int, record: int, epoch: int, row: NDArray[Any]) -> None:
        """Keep what is wanted at a recorded time."""
        for place, chosen in self.records.items():
            if chosen == record:
                self.kept[member, place] = Snapshot(epoch, np.array(row))

    def variables(self, rate: float) -> dict[str, Any]:
        """Variables of the dataset; NaN where a member has no such time."""
        if not self.wanted:
            return {}
        bond, precision = self.scenario.bond, self.scenario.precision
        layout: dict[str, tuple[tuple[str, ...], tuple[int, ...], str]] = {
            "attention": (("spin", "bond", "bond_right"), (2, bond, bond), "A"),
            "classifier": (("spin", "bond", "bond_right"), (2, bond, bond), "B"),
            "scale": ((), (), "c"),
            "left": (("bond",), (bond,), "v^L"),
            "right": (("bond",), (bond,), "v^R"),
            "left_contexts": (("cell", "bond"), (_CONTEXT_CELLS, bond), "l"),
            "right_contexts": (("cell", "bond"), (_CONTEXT_CELLS, bond), "r"),
        }
        shape = (self.numbers.size, len(self.wanted))
        arrays = {name: np.full((*shape, *size), np.nan, precision) for name, (_, size, _) in layout.items()}
        times = np.full(shape, np.nan)
        for where, snapshot in self.kept.items():
            times[where] = snapshot.epoch * rate
            parameters = unflat(snapshot.row, bond)
            values = (*parameters, *_contexts(parameters, [self.scenario.seed, int(self.numbers[where[0]])]))
            for name, value in zip(layout, values, strict=True):
                arrays[name][where] = value
        found: dict[str, Any] = {
            f"snapshot_{name}": (("member", "snapshot", *dims), arrays[name], _attributes(f"{name} at a time", symbol))
            for name, (dims, _, symbol) in layout.items()
        }
        found["snapshot_time"] = (("member", "snapshot"), times, _attributes("time of the snapshot", "t"))
        return found
