"""Figure 10: evolution of a cellular automaton from a single cell, and the rules learned in Sec. 4.

The paper shows rule 30 and learns one, two and three applications of it (K = 1, 2, 3).  Any elementary rule can be
drawn: the option ``rule`` is Wolfram's number.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grokphase import CellularAutomaton
from grokphase.experiments._framework import Comparison, Experiment, Progress, Scale, variable
from grokphase.experiments._style import colour, panel_title, panels, style

__all__ = ["EXPERIMENT"]

STEPS = {"quick": 48, "paper": 128}
REACHES = (1, 2, 3)
PUBLISHED_RULE = 30
PUBLISHED_TABLE = (-1, 1, 1, 1, 1, -1, -1, -1)  # Eq. 52
# Centre cells of rule 30 from a single cell (OEIS A051023): an independent record of the automaton.
CENTRE = (1, 1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0)


def compute(scale: Scale, rng: np.random.Generator, progress: Progress, rule: int = PUBLISHED_RULE) -> xr.Dataset:
    """The evolution from one cell, and how the iterated rules look; nothing is drawn at random."""
    automaton = CellularAutomaton(rule)
    steps = STEPS[scale]
    start = np.full(2 * steps + 1, -1)
    start[steps] = 1
    iterated = [automaton.iterate(reach) for reach in REACHES]
    # An input cell matters to the fraction of neighbourhoods in which flipping it flips the output.
    longest = 2 * max(REACHES) + 1
    influence = np.full((len(REACHES), longest), np.nan)
    for row, (reach, local) in enumerate(zip(REACHES, iterated, strict=True)):
        numbers = np.arange(local.table.size)
        for cell in range(2 * reach + 1):
            flipped = local.table[numbers ^ (1 << (2 * reach - cell))]
            influence[row, cell - reach + max(REACHES)] = (flipped != local.table).mean()
    progress(1.0)
    return xr.Dataset(
        {
            "cells": variable(("step", "cell"), automaton.evolve(start, steps), "state of a cell", "x_i"),
            "table": variable("neighbourhood", automaton.table, "output of the rule", "y"),
            "positive": variable(
                "reach", [(local.table > 0).mean() for local in iterated], "fraction of neighbourhoods with output +1"
            ),
            "influence": variable(
                ("reach", "offset"), influence, "fraction of neighbourhoods in which a cell decides the output"
            ),
        },
        coords={
            "cell": variable("cell", np.arange(-steps, steps + 1), "cell, from the first one", "i"),
            "reach": variable("reach", REACHES, "number of applications of the rule", "K"),
            "offset": variable(
                "offset", np.arange(-max(REACHES), max(REACHES) + 1), "input cell, from the output cell"
            ),
        },
        attrs={"rule": automaton.number},
    )


def draw(data: xr.Dataset) -> Figure:
    """The evolution, and which input cells the learned rules depend on."""
    with style():
        figure, (left, right) = panels(2)
        left.pcolormesh(data["cell"], data["step"], data["cells"], cmap="Greys", rasterized=True)
        left.invert_yaxis()
        left.set_aspect("equal")
        left.set_xlabel("cell")
        left.set_ylabel("step")
        panel_title(left, 0, f"rule {data.attrs['rule']} from a single cell")
        for index, reach in enumerate(data["reach"].values):
            row = data["influence"].sel(reach=reach)
            label = "1 application" if reach == 1 else f"{reach} applications"
            right.plot(row["offset"], row, "o-", color=colour(index), ms=4, label=label)
        right.set_ylim(0, 1.05)
        right.set_xticks(data["offset"].values)
        right.set_xlabel("input cell, from the output cell")
        right.set_ylabel("how often it decides the output")
        right.legend(loc="upper right")
        panel_title(right, 1, "the local rules to be learned")
    return figure


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The table of Eq. 52 and the known centre column, for rule 30."""
    if data.attrs["rule"] != PUBLISHED_RULE:
        return []
    table = tuple(int(value) for value in data["table"].values)
    centre = tuple(int(value > 0) for value in data["cells"].sel(cell=0).values[: len(CENTRE)])
    return [
        Comparison(
            "outputs of rule 30 for the eight neighbourhoods",
            _signs(PUBLISHED_TABLE),
            _signs(table),
            "exact",
            table == PUBLISHED_TABLE,
            "Eq. 52",
        ),
        Comparison(
            f"first {len(CENTRE)} centre cells of Fig. 10",
            "".join(map(str, CENTRE)),
            "".join(map(str, centre)),
            "exact",
            centre == CENTRE,
            "the picture shows the automaton's standard evolution; the digits are sequence A051023 of the OEIS",
        ),
    ]


def _signs(table: tuple[int, ...]) -> str:
    return " ".join("+" if value > 0 else "−" for value in table)


EXPERIMENT = Experiment(
    name="fig10",
    title="The local teacher: rule 30",
    summary=(
        "The task of Section 4: predict the next state of every cell from its neighbours. Rule 30 looks "
        "one cell to each "
        "side, yet its evolution is chaotic. Two or three applications of it make rules that look two or "
        "three cells far."
    ),
    compute=compute,
    draw=draw,
    compare=compare,
    options={"rule": PUBLISHED_RULE},
)
