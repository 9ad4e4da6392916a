r"""A scenario: teacher, student, data, training and tests of an ensemble of runs, as one value.

Object (Secs. 4.2 and 4.3.2).  Members of an ensemble differ in their random numbers only; member i of a
scenario is the same run wherever and with whomever it is computed.  Attention A, classifier B (shape (2,
bond, bond), the spin first), a scale c and, if trained, the boundary vectors minimise

    L = mean over cells of (σ(ŷ) − target)² + λ₁ |θ|₁ + (λ₂/2) |θ|₂²,    targets 0 and 1,    ŷ = c·h_{x_i},

    h_s = l_i B_s r_i / (Σ_s' (l_i B_s' r_i)²)^½  (``normalise_scores``),  or  h_s = l_i B_s r_i,

with unit contexts l_i, r_i (Eqs. 60-62), by Adam.  The penalties enter the gradient, not the recorded loss.

Conventions.  Time is learning rate × epochs.  An *epoch* shows every string of the longest length once; with
``batch="all"`` it is one step.  Strings are relabelled after cropping: outside every string are cells −1.

Two presets, chosen by ``protocol``; any option can be changed on its own:

- ``"published"`` is how the figures of Sec. 4.3.2 and App. D were made, as far as figures and published code
  tell: minibatches of 128 of the 2¹⁰ strings, each cropped to a random length 6..10, fixed boundary vectors
  e₀, zero error meaning an average domain size above 0.99.
- ``"all-inputs"`` trains on all inputs of one length at once, boundary vectors included, and means by zero
  error that no test cell is wrong.

Pure Python, no JAX: a scenario can be made, written and compared anywhere.

References: Žunkovič & Ilievski 2024, Secs. 4.2, 4.3.2 and App. D.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from grokphase._checks import choice, integer, real
from grokphase.rules import CellularAutomaton

__all__ = ["SCHEMA", "Scenario"]

SCHEMA = 1
"""Version of the text file; a file of another version is refused."""

MAX_REACH = 5
MAX_LENGTH = 14

_DURATION = {"none": 10.0, "l2": 5.0, "l1": 3.0}  # the published runs reach zero before these times

_PRESETS: dict[str, dict[str, Any]] = {
    "published": {
        "boundary": "fixed",
        "lengths": (6, 10),
        "batch": 128,
        "zero": "domain-size",
        "test_strings": 1000,
        "record_every": 4,
    },
    "all-inputs": {
        "boundary": "trained",
        "lengths": (8, 8),
        "batch": "all",
        "zero": "error",
        "test_strings": 100,
        "record_every": 32,
    },
}
_COMMON: dict[str, Any] = {
    "normalise_scores": True,
    "trained_scale": True,
    "penalise": "all",
    "initial_std": 1.0,
    "initial_scale": 1.0,
    "learning_rate": 0.005,
    "moments": (0.9, 0.999),
    "adam_epsilon": 1e-8,
    "duration": None,
    "observe": 2.0,
    "zero_domain_size": 0.99,
    "test_sites": 1000,
    "exact_lengths": (),
    "precision": "float32",
    "guard": False,
}


@dataclass(frozen=True, init=False)
class Scenario:
    r"""What an ensemble of training runs is, as a frozen and validated value.

    Parameters
    ----------
    rule
        The teacher, a :class:`~grokphase.rules.CellularAutomaton` of reach at most 5 (or an elementary rule's
        number).
    bond
        Bond dimension d of attention and classifier.
    l1, l2
        Penalties λ₁, λ₂ ≥ 0.
    members
        Number of runs of the ensemble.
    seed
        Root of all random numbers.
    protocol
        Preset of the options below, ``"published"`` or ``"all-inputs"``.
    **options
        Any of the attributes below by name.

    Attributes
    ----------
    rule, bond, l1, l2, members, seed, protocol
        As given.
    boundary
        ``"fixed"``: boundary vectors are e₀ (published).  ``"trained"``: they start as random directions and
        are trained.
    normalise_scores
        True: the two numbers h₀, h₁ of a cell are normalised to h₀² + h₁² = 1.
    trained_scale
        True: one trained number c multiplies them.  False: c stays at ``initial_scale``.
    lengths
        Shortest and longest training string, (6, 10) or (8, 8).  All strings of the longest length are
        shown; every minibatch is cropped to one length, drawn uniformly, at one offset, drawn uniformly.
        A single number n means (n, n).  Lengths and offsets are drawn once for the whole ensemble;
        everything else is a member's own.
    batch
        Strings a step, a power of two, 128 (published); or ``"all"``.
    penalise
        ``"all"``: penalties act on every trained parameter (published).  ``"tensors"``: only on A and B.
    initial_std, initial_scale
        A, B ~ N(0, initial_std²); first value of c.
    learning_rate, moments, adam_epsilon
        Of Adam: 0.005, (0.9, 0.999), 1e-8.
    duration
        A run that has not reached zero test error by this time is given up (*censored*).  Published: 10
        without penalty, 5 with λ₂, 3 with λ₁; all inputs: 10.
    observe
        A run goes on for so long after its zero test time (published: 400 epochs).
    record_every
        Epochs between two recorded times: 4 (published) or 32, both 32 steps.  Zero times are found to one epoch
        in any case.
    zero
        What zero error means.  ``"domain-size"``: the mean over strings of 1/(number of stretches of equally
        right or wrong cells) exceeds ``zero_domain_size`` (published; a string wrong everywhere counts as
        perfect).  ``"error"``: no cell is wrong.
    zero_domain_size
        0.99.
    test_sites
        Cells of a random test string, 1000, filled up to a multiple of four (and one more where ``test_error``
        and ``effective_dimension`` are measured); ``test_error`` is the fraction of wrong cells.
    test_strings
        Number of strings that decide on zero test error: 1000 (published) or 100.
    exact_lengths
        Lengths M ≤ 14 for which the exact error over all inputs is recorded as well.
    precision
        ``"float32"`` or ``"float64"``.
    guard
        True: after a loss spike, a run goes back to its state before it if the effective dimension rose, and keeps
        going if it fell (the paper's proposal, Sec. 5).  Spikes are looked for in the recorded times, among the last
        50 of them, and last for a few epochs: with ``record_every=1`` none is missed.  False (published).

    Raises
    ------
    ValueError
        If an option is unknown, or a value out of range.

    Examples
    --------
    >>> scenario = Scenario(rule=30, bond=10, l1=0.001)
    >>> scenario.duration, scenario.batch, scenario.steps_per_epoch
    (3.0, 128, 8)
    >>> scenario.replace(bond=20, lengths=8).lengths
    (8, 8)
    """

    rule: CellularAutomaton
    bond: int
    l1: float
    l2: float
    members: int
    seed: int
    protocol: Literal["published", "all-inputs"]
    boundary: Literal["fixed", "trained"]
    normalise_scores: bool
    trained_scale: bool
    lengths: tuple[int, int]
    batch: int | Literal["all"]
    penalise: Literal["all", "tensors"]
    initial_std: float
    initial_scale: float
    learning_rate: float
    moments: tuple[float, float]
    adam_epsilon: float
    duration: float
    observe: float
    record_every: int
    zero: Literal["domain-size", "error"]
    zero_domain_size: float
    test_strings: int
    test_sites: int
    exact_lengths: tuple[int, ...]
    precision: Literal["float32", "float64"]
    guard: bool

    def __init__(
        self,
        rule: CellularAutomaton | int,
        bond: int = 10,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        members: int = 1000,
        seed: int = 0,
        protocol: str = "published",
        **options: Any,
    ) -> None:
        preset = {**_COMMON, **_PRESETS[choice("protocol", protocol, _PRESETS)]}
        unknown = sorted(set(options) - set(preset))
        if unknown:
            raise ValueError(f"unknown option {', '.join(unknown)}; a scenario has {', '.join(sorted(preset))}")
        given = {**preset, **options, "rule": rule, "bond": bond, "l1": l1, "l2": l2}
        given |= {"members": members, "seed": seed, "protocol": protocol}
        if given["duration"] is None:
            penalty = "l1" if given["l1"] else "l2" if given["l2"] else "none"
            given["duration"] = _DURATION[penalty if protocol == "published" else "none"]
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, given[name]))
        self._check_together()

    def _check_together(self) -> None:
        strings = 2 ** self.lengths[1]
        if self.batch != "all" and (self.batch & (self.batch - 1) or self.batch > strings):
            raise ValueError(f"batch must be a power of two up to 2**{self.lengths[1]} = {strings}, got {self.batch}")

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in which every string is shown once."""
        return 1 if self.batch == "all" else int(2 ** self.lengths[1] // self.batch)

    @property
    def point_training(self) -> bool:
        """Whether every step sees the same strings, so that training loss and error belong to a point in time.

        They are then those of the parameters at a recorded time; otherwise they are means over the steps of
        the epoch that ends there, each taken before its step.
        """
        return self.batch == "all" and self.lengths[0] == self.lengths[1]

    @property
    def last_epoch(self) -> int:
        """The epoch by which a run must have reached zero test error."""
        return round(self.duration / self.learning_rate)

    @property
    def record_epochs(self) -> range:
        """Epochs at which a run is recorded: numbers of finished epochs, up to ``duration`` + ``observe``."""
        last = round((self.duration + self.observe) / self.learning_rate)
        return range(self.record_every, last + self.record_every, self.record_every)

    def replace(self, **changes: Any) -> Scenario:
        """The scenario with some options changed and all others kept as they are.

        Parameters
        ----------
        **changes
            Attributes by name, but for ``protocol``.

        Returns
        -------
        scenario
            A new scenario.

        Raises
        ------
        ValueError
            As the constructor does, or if ``protocol`` is given: a preset is chosen when a scenario is made.
        """
        if "protocol" in changes:
            raise ValueError("protocol must be chosen when a scenario is made: Scenario(..., protocol=...)")
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return Scenario(**(kept | changes))

    def to_text(self) -> str:
        """The scenario as the text of a TOML file: every option in full, but for a guard that is off.

        Texts of scenarios without a guard are then those of the versions that had none, and stores are recognised.
        """
        lines = [f"schema = {SCHEMA}"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "guard" and not value:
                continue
            lines.append(f"{field.name} = {_rule_text(value) if field.name == 'rule' else _toml(value)}")
        return "\n".join(lines) + "\n"

    def to_toml(self, path: str | Path) -> None:
        """Write :meth:`to_text` to a file.

        Parameters
        ----------
        path
            The file, replaced if there is one.
        """
        Path(path).write_text(self.to_text(), encoding="utf-8")

    @classmethod
    def from_toml(cls, path: str | Path) -> Scenario:
        """Read a scenario from a TOML file; what it does not name has the preset's value.

        Parameters
        ----------
        path
            A file as :meth:`to_toml` writes it.  ``rule`` is a number (reach 1), or a table with ``reach``
            and either ``number`` or ``table``, the digits 0 and 1 in the order of the rule's table.

        Returns
        -------
        scenario
            Equal to the one written.

        Raises
        ------
        ValueError
            If the file is no TOML, has an unknown key or schema, or a value out of range.
        """
        with Path(path).open("rb") as file:
            try:
                found = tomllib.load(file)
            except tomllib.TOMLDecodeError as error:
                raise ValueError(f"{path} is not a TOML file: {error}") from None
        if found.pop("schema", SCHEMA) != SCHEMA:
            raise ValueError(f"{path} must have schema = {SCHEMA}; it was written by another version")
        if "rule" not in found:
            raise ValueError(f"{path} must name a rule, such as rule = 30")
        return cls(_rule_from(found.pop("rule")), **found)


def _rule_text(rule: CellularAutomaton) -> str:
    if rule.reach <= 2:  # larger numbers exceed the 64 bits of a TOML integer
        return f"{{ number = {rule.number}, reach = {rule.reach} }}"
    digits = "".join("1" if spin > 0 else "0" for spin in rule.table)
    return f'{{ table = "{digits}", reach = {rule.reach} }}'


def _rule_from(value: Any) -> CellularAutomaton | int:
    if not isinstance(value, dict):
        return integer("rule", value)
    unknown = sorted(set(value) - {"number", "table", "reach"})
    if unknown or ("number" in value) == ("table" in value):
        raise ValueError(f"rule must have a number or a table, and a reach, got {', '.join(value) or 'nothing'}")
    if "number" in value:
        return CellularAutomaton(value["number"], value.get("reach"))
    digits = value["table"]
    if not isinstance(digits, str) or set(digits) - set("01"):
        raise ValueError(f"rule.table must be a text of digits 0 and 1, got {digits!r}")
    return CellularAutomaton(np.array([1 if digit == "1" else -1 for digit in digits]), value.get("reach"))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)


def _one_of(*options: str) -> Callable[[str, Any], Any]:
    return lambda name, value: choice(name, value, options)


def _count(minimum: int, maximum: int = 10**9) -> Callable[[str, Any], int]:
    return lambda name, value: integer(name, value, minimum=minimum, maximum=maximum)


def _number(exclusive: bool = False, maximum: float = np.inf) -> Callable[[str, Any], float]:
    return lambda name, value: real(name, value, minimum=0, maximum=maximum, exclusive=exclusive)


def _flag(name: str, value: Any) -> bool:
    return bool(choice(name, value, (True, False)))


def _rule(name: str, value: Any) -> CellularAutomaton:
    rule = value if isinstance(value, CellularAutomaton) else CellularAutomaton(value)
    integer(f"{name}.reach", rule.reach, maximum=MAX_REACH)
    return rule


def _lengths(name: str, value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} must be a length or a pair of them, got {value!r}")
    longest = integer(f"{name}[1]", pair[1], minimum=2, maximum=MAX_LENGTH)
    return integer(f"{name}[0]", pair[0], minimum=2, maximum=longest), longest


def _exact_lengths(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list of lengths, got {value!r}")
    return tuple(integer(name, length, minimum=2, maximum=MAX_LENGTH) for length in value)


def _batch(name: str, value: Any) -> int | Literal["all"]:
    return "all" if value == "all" else integer(name, value, minimum=1)


def _moments(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, got {value!r}")
    first, second = (real(name, moment, minimum=0, maximum=1 - 1e-12) for moment in value)
    return first, second


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "rule": _rule,
    "bond": _count(2),
    "l1": _number(),
    "l2": _number(),
    "members": _count(1, 2**31 - 1),
    "seed": _count(0, 2**31 - 1),
    "protocol": _one_of(*_PRESETS),
    "boundary": _one_of("fixed", "trained"),
    "normalise_scores": _flag,
    "trained_scale": _flag,
    "lengths": _lengths,
    "batch": _batch,
    "penalise": _one_of("all", "tensors"),
    "initial_std": _number(exclusive=True),
    "initial_scale": lambda name, value: real(name, value),
    "learning_rate": _number(exclusive=True),
    "moments": _moments,
    "adam_epsilon": _number(exclusive=True),
    "duration": _number(exclusive=True),
    "observe": _number(),
    "record_every": _count(1),
    "zero": _one_of("domain-size", "error"),
    "zero_domain_size": _number(maximum=1),
    "test_strings": _count(1),
    "test_sites": _count(2),
    "exact_lengths": _exact_lengths,
    "precision": _one_of("float32", "float64"),
    "guard": _flag,
}
