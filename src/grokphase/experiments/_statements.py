r"""The paper's statements about trained students as comparisons of numbers, and what other readings make of them.

A statement says that one number is larger than another, for several pairs of ensembles.  A pair *holds* if the
difference is more than three of its standard errors, is *reversed* if it is less than minus three, and is *open*
otherwise (false-alarm rate 1.3e-3 each).  That grokking times are bimodal holds where the dip test's p-value is below
1e-3, and is open elsewhere.

In one reading (:mod:`grokphase.experiments._protocol_table`) a statement holds if most of its pairs do and none is
reversed; it is reversed if most pairs are and none holds; it holds in part if some hold and some are reversed; else it
is open.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, App. D.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from grokphase.experiments._ensembles import REGULARISATIONS
from grokphase.experiments._protocol_table import READINGS, Key
from grokphase.experiments._time_distributions import FALSE_ALARM

__all__ = ["DECISIVE", "STATEMENTS", "UNDECIDED", "Counts", "Statement", "fate", "judge", "judge_all", "sentence"]

DECISIVE = 3.0
"""Standard errors of a difference that decide."""

UNDECIDED = "cannot be decided with these runs"

Pair = tuple[Key, Key | None]
"""Where a number is said to be larger, and than where; None: than zero."""


class Counts(NamedTuple):
    """Pairs for which a statement holds, is reversed, and is open."""

    holds: int
    reversed: int
    open: int

    @property
    def tests(self) -> int:
        """All of them."""
        return sum(self)

    @property
    def verdict(self) -> str:
        """``holds``, ``reversed``, ``in part``, ``open`` or ``untested``.

        >>> [Counts(*each).verdict for each in ((3, 0, 1), (0, 3, 1), (2, 1, 0), (1, 0, 2), (0, 0, 0))]
        ['holds', 'reversed', 'in part', 'open', 'untested']
        """
        if not self.tests:
            return "untested"
        if self.holds and self.reversed:
            return "in part"
        if 2 * self.holds > self.tests:
            return "holds"
        return "reversed" if 2 * self.reversed > self.tests else "open"

    def __str__(self) -> str:
        reverse = f", reversed in {self.reversed}" if self.reversed else ""
        return f"{self.holds} of {self.tests}{reverse}"


@dataclass(frozen=True)
class Statement:
    """One claim of the paper."""

    text: str
    where: str
    statistic: str
    pairs: Callable[[Sequence[int], Sequence[int]], list[Pair]]
    """Pairs for given reaches and bond dimensions."""


def _penalties(*larger_smaller: tuple[str, str], reaches: Sequence[int] = (1, 2, 3)) -> Callable[..., list[Pair]]:
    def pairs(found: Sequence[int], bonds: Sequence[int]) -> list[Pair]:
        return [
            ((reach, larger, bond), (reach, smaller, bond))
            for reach in found
            if reach in reaches
            for larger, smaller in larger_smaller
            for bond in bonds
        ]

    return pairs


def _with_reach(*, grows: bool) -> Callable[..., list[Pair]]:
    def pairs(reaches: Sequence[int], bonds: Sequence[int]) -> list[Pair]:
        steps = [((reach + 1, reach) if grows else (reach, reach + 1)) for reach in reaches if reach + 1 in reaches]
        return [
            ((larger, penalty, bond), (smaller, penalty, bond))
            for larger, smaller in steps
            for penalty in REGULARISATIONS
            for bond in bonds
        ]

    return pairs


def _grows_with_bond(penalty: str) -> Callable[..., list[Pair]]:
    def pairs(reaches: Sequence[int], bonds: Sequence[int]) -> list[Pair]:
        ordered = sorted(bonds)
        steps = zip(ordered[1:], ordered[:-1], strict=True)
        return [((1, penalty, larger), (1, penalty, smaller)) for larger, smaller in steps if 1 in reaches]

    return pairs


def _each(penalties: Sequence[str]) -> Callable[..., list[Pair]]:
    def pairs(reaches: Sequence[int], bonds: Sequence[int]) -> list[Pair]:
        return [((reach, penalty, bond), None) for reach in reaches for penalty in penalties for bond in bonds]

    return pairs


def _claimed_bimodal(reaches: Sequence[int], bonds: Sequence[int]) -> list[Pair]:
    return [((reach, "L2", bond), None) for reach in reaches for bond in bonds if reach > 1 or bond == 20]


STATEMENTS = (
    Statement("L1 shortens the zero-test time t_ε", "Figs. 23, 27", "t_eps", _penalties(("none", "L1"))),
    Statement("L2 shortens the zero-test time t_ε", "Figs. 23, 27", "t_eps", _penalties(("none", "L2"))),
    Statement("L1 shortens the grokking time t_G", "Figs. 23, 26", "t_G", _penalties(("none", "L1"))),
    Statement("L1 shortens t_G more than L2 does", "Sec. 4.3.2", "t_G", _penalties(("L2", "L1"))),
    Statement("with L2, t_G increases with the model size", "Sec. 4.3.2", "t_G", _grows_with_bond("L2")),
    Statement("t_G increases with the range K of the rule", "Fig. 26", "t_G", _with_reach(grows=True)),
    Statement("t_G is bimodal with L2 (K = 1: for d = 20)", "Figs. 23, 26", "dip", _claimed_bimodal),
    Statement("D_eff falls before the transition", "Figs. 20, 25", "fall", _each(tuple(REGULARISATIONS))),
    Statement(
        "that fall is a sharp drop at the transition", "Figs. 20, 25", "sharpness", _each(tuple(REGULARISATIONS))
    ),
    Statement(
        "regularisation lowers D_eff, L1 most (K = 1)",
        "Fig. 20",
        "dimension",
        _penalties(("none", "L2"), ("none", "L1"), ("L2", "L1"), reaches=(1,)),
    ),
    Statement("regularisation lowers ν", "Figs. 19, 24", "nu", _penalties(("none", "L2"), ("none", "L1"))),
    Statement("ν is smaller for larger K", "App. D", "nu", _with_reach(grows=False)),
)


def judge(table: xr.Dataset, statement: Statement, reading: str) -> Counts:
    """Count the pairs of one statement in one reading; pairs that were not measured there are left out."""
    bonds = table["bond"].values.tolist()
    if reading == "printed" and statement.statistic == "dimension":
        bonds = bonds[:1]  # printed as a mean over bond dimensions
    counts = {"holds": 0, "reversed": 0, "open": 0}
    for larger, smaller in statement.pairs(table["reach"].values.tolist(), bonds):
        value, stderr = _at(table, statement.statistic, reading, larger)
        if statement.statistic == "dip":
            if np.isfinite(value):
                counts["holds" if value < FALSE_ALARM else "open"] += 1
            continue
        if smaller is not None:
            other, its_stderr = _at(table, statement.statistic, reading, smaller)
            value, stderr = value - other, float(np.hypot(stderr, its_stderr))
        if np.isfinite(value) and np.isfinite(stderr):
            decisive = abs(value) > DECISIVE * stderr
            counts[("holds" if value > 0 else "reversed") if decisive else "open"] += 1
    return Counts(**counts)


def _at(table: xr.Dataset, statistic: str, reading: str, key: Key) -> tuple[float, float]:
    """Value and standard error; of a time in readings that hold censored runs, those of the time that is cut."""
    reach, penalty, bond = key
    at = table.sel(reading=reading, reach=reach, regularisation=penalty, bond=bond)
    cut = f"{statistic}_cut"
    if cut in at["statistic"].values and not np.isfinite(at["value"].sel(statistic=statistic)):
        statistic = cut
    return float(at["value"].sel(statistic=statistic)), float(at["stderr"].sel(statistic=statistic))


def judge_all(table: xr.Dataset, statement: Statement) -> dict[str, Counts]:
    """Counts in every reading in which the statement was tested."""
    found = {str(reading): judge(table, statement, str(reading)) for reading in table["reading"].values}
    return {reading: counts for reading, counts in found.items() if counts.tests}


def fate(counts: Mapping[str, Counts]) -> str:
    """What becomes of a statement, in words.

    >>> yes, no, unclear = Counts(3, 0, 0), Counts(0, 3, 0), Counts(1, 0, 2)
    >>> [fate({"published": yes, "all": other}) for other in (yes, no, unclear)]
    ['survives', 'depends on the choices', 'holds as published, open elsewhere']
    >>> fate({"published": no, "all": yes})
    'is not what we find'
    """
    found = {reading: each.verdict for reading, each in counts.items() if reading != "printed"}
    own = found.pop("published", "untested")
    if own != "holds":
        words = {"reversed": "is not what we find", "in part": "holds in part", "untested": "was not tested"}
        return words.get(own, UNDECIDED)
    if set(found.values()) & {"reversed", "in part"}:
        return "depends on the choices"
    return "holds as published, open elsewhere" if "open" in found.values() else "survives"


def sentence(statement: Statement, counts: Mapping[str, Counts]) -> str:
    """The fate of a statement with its counts, for the page of plain words."""
    parts = []
    if "printed" in counts:
        parts.append(f"by the printed numbers it holds in {counts['printed']} comparisons")
    parts += [f"{READINGS[reading]}: {each}" for reading, each in counts.items() if reading != "printed"]
    return f"“{statement.text}” ({statement.where}) {fate(counts)}: {'; '.join(parts)}."
