"""The ensembles of trained students behind Figs. 18-20 and 23-27, under one name each.

Object (Sec. 4.3.2 and App. D): attention and classifier are trained together on rule 30 iterated K times, a K-local
rule, for three bond dimensions d and three regularisations; the preset ``published`` of
:class:`grokphase.training.Scenario` says how.  Equal scenarios are simulated once for all experiments of a folder.

Runs go on for 200 epochs after zero test error, as far as the published curves are drawn (the published runs went on
for 400, which changes nothing else).

Selection: :func:`selected` keeps the runs that were worse on the test than on the training set for a while (t_G > 0)
and are not late.  Neither the published averages nor the published histograms are over these runs alone, as their ends
suggest; see :mod:`grokphase.experiments._aligned` and :mod:`grokphase.experiments._times`.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, App. D.
"""

import tomllib
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from grokphase._checks import choice, integer
from grokphase.experiments._framework import SCALES, Ensemble, Scale
from grokphase.rules import CellularAutomaton
from grokphase.training import Scenario

__all__ = ["BONDS", "LATEST", "REGULARISATIONS", "RULE", "bonds_of", "name_of", "published", "selected"]

RULE = 30
BONDS = (10, 20, 40)
REGULARISATIONS = {"none": (0.0, 0.0), "L2": (0.0, 1e-4), "L1": (1e-3, 0.0)}
"""λ₁ and λ₂."""

LATEST = {"none": 10.0, "L2": 5.0, "L1": 3.0}
"""The published histograms of the zero test time end just below these numbers."""

OBSERVE = 1.0  # time after zero test error: where the published curves end

MEMBERS: dict[Scale, int] = {"quick": 32, "paper": 1000}


def name_of(reach: int, regularisation: str, bond: int) -> str:
    """Name of an ensemble.

    >>> name_of(1, "L2", 20)
    'K=1, L2, d=20'
    """
    return f"K={reach}, {choice('regularisation', regularisation, REGULARISATIONS)}, d={bond}"


def bonds_of(scale: Scale, bonds: str | Sequence[int] = ()) -> tuple[int, ...]:
    """Bond dimensions as a list or as text ("10,20"); where there are none, what the scale says.

    Raises
    ------
    ValueError
        If the scale is unknown, or a bond dimension is no integer from 2 on or comes twice.

    Examples
    --------
    >>> bonds_of("quick"), bonds_of("paper"), bonds_of("quick", "20, 40")
    ((10,), (10, 20, 40), (20, 40))
    """
    choice("scale", scale, SCALES)
    given: Sequence[Any] = bonds
    if isinstance(bonds, str):
        given = [_number(word) for word in bonds.replace(",", " ").split()]
    found = tuple(integer("bonds", bond, minimum=2) for bond in given)
    if len(set(found)) < len(found):
        raise ValueError(f"bonds must be different numbers, got {bonds!r}")
    return found or (BONDS if scale == "paper" else BONDS[:1])


def _number(word: str) -> int | str:
    """An integer if it is one; what is refused is shown as it was given."""
    try:
        return int(word)
    except ValueError:
        return word


def published(
    scale: Scale, seed: int, *, reaches: Sequence[int], members: int = 0, bonds: str | Sequence[int] = ()
) -> dict[str, Ensemble]:
    """The ensembles of the published figures, by :func:`name_of`.

    Parameters
    ----------
    scale
        ``"quick"``: 32 runs each, bond dimension 10.  ``"paper"``: 1000 runs, all three.
    seed
        Of all random numbers.
    reaches
        Reaches K of the rule.
    members
        Runs an ensemble; 0 leaves it to the scale.
    bonds
        Bond dimensions, as a list or as text; none: by scale.

    Returns
    -------
    ensembles
        For every reach, regularisation and bond dimension, in this order.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> list(published("quick", 0, reaches=[1]))
    ['K=1, none, d=10', 'K=1, L2, d=10', 'K=1, L1, d=10']
    """
    size = integer("members", members) or MEMBERS[choice("scale", scale, SCALES)]
    found = {}
    for reach in reaches:
        rule = CellularAutomaton(RULE).iterate(reach)
        for regularisation, (l1, l2) in REGULARISATIONS.items():
            for bond in bonds_of(scale, bonds):
                scenario = Scenario(rule, bond, l1=l1, l2=l2, members=size, seed=seed, observe=OBSERVE)
                found[name_of(reach, regularisation, bond)] = Ensemble(scenario)
    return found


def selected(run: xr.Dataset) -> NDArray[np.bool_]:
    """Members with t_G > 0 that reach zero test error before :data:`LATEST`.

    Parameters
    ----------
    run
        Trajectories from :func:`grokphase.simulate`.

    Returns
    -------
    selected
        Shape (member,).
    """
    scenario = tomllib.loads(run.attrs["scenario"])
    latest = LATEST["L1" if scenario["l1"] else "L2" if scenario["l2"] else "none"]
    train, test = (run[name].to_numpy() for name in ("zero_train_time", "zero_test_time"))
    return np.asarray((test > train) & (test < latest))
