"""The values printed in the legends of Figs. 19, 20 and 23 to 27, and how many runs the published histograms hold.

References: Žunkovič & Ilievski 2024.
"""

from functools import cache
from typing import NamedTuple

from grokphase.experiments._ensembles import BONDS, REGULARISATIONS
from grokphase.experiments._framework import published_rows

__all__ = ["LEGENDS", "Legend", "figure_of", "legend", "legends", "published_count"]

LEGENDS = {"t_eps": "mean_t_eps", "t_G": "mean_t_G", "nu": "nu", "dimension": "D_eff_min"}
"""Our names of the printed quantities, and those in the file."""

_FIGURES = {"t_eps": {1: 23, 2: 27, 3: 27}, "t_G": {1: 23, 2: 26, 3: 26}}
_FIGURES |= {"nu": {1: 19, 2: 24, 3: 24}, "dimension": {1: 20, 2: 25, 3: 25}}


class Legend(NamedTuple):
    """A printed value, with more digits where a line was drawn at it; ``error`` is half of its last digit."""

    value: float
    printed: str
    error: float


def figure_of(quantity: str, reach: int) -> str:
    """The figure that prints a quantity.

    >>> figure_of("t_G", 2)
    'fig26'
    """
    return f"fig{_FIGURES[quantity][reach]}"


@cache
def _legends() -> dict[tuple[str, int, str, int | None], Legend]:
    names = {name: quantity for quantity, name in LEGENDS.items()}
    penalties = {strengths: name for name, strengths in REGULARISATIONS.items()}
    found = {}
    for row in published_rows("legend_values"):
        if row["figure"] == "15":  # of fixed attention
            continue
        quantity, reach = names[row["quantity"]], int(row["rule_K"])
        penalty = penalties[float(row["lambda1"]), float(row["lambda2"])]
        bond = None if row["d"] == "all" else int(row["d"])
        line = row["value_from_drawn_line"]
        digits = len((line or row["value"]).partition(".")[2])
        found[quantity, reach, penalty, bond] = Legend(float(line or row["value"]), row["value"], 0.5 * 10**-digits)
    return found


def legends() -> dict[tuple[str, int, str, int | None], Legend]:
    """All of them, by quantity, reach, penalty and bond dimension (None: a mean over bond dimensions).

    >>> len(legends())
    90
    """
    return dict(_legends())


def legend(quantity: str, reach: int, regularisation: str, bond: int | None) -> Legend:
    """One of them.

    >>> legend("t_G", 1, "L1", 40)
    Legend(value=0.059323, printed='0.06', error=5e-07)
    """
    return _legends()[quantity, reach, regularisation, bond]


def published_count(quantity: str, reach: int, regularisation: str, bond: int | None) -> int:
    """Runs behind a printed value: those in the histogram of t_G for t_G, else of t_ε; None: of all bond dimensions."""
    if bond is None:
        return sum(published_count(quantity, reach, regularisation, each) for each in BONDS)
    (count,) = [
        int(row["runs_in_histogram"])
        for row in published_rows("run_counts")
        if (int(row["rule_K"]), row["d"]) == (reach, str(bond))
        and (float(row["lambda1"]), float(row["lambda2"])) == REGULARISATIONS[regularisation]
        and row["quantity"] == ("t_G" if quantity == "t_G" else "t_eps")
    ]
    return count
