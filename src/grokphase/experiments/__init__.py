"""The paper's figures and tables as experiments: computed, drawn and compared with the published values.

One module an experiment, each with an ``EXPERIMENT``; library code never imports from here.
"""

from importlib import import_module

from grokphase._checks import choice
from grokphase.experiments._framework import SCALES, Comparison, Experiment, Scale

__all__ = ["NAMES", "SCALES", "Comparison", "Experiment", "Scale", "load"]

NAMES = (
    *("fig03", "fig04", "fig05", "fig07", "fig08", "fig09", "claims"),
    *("fig10", "fig12", "fig13", "fig14", "fig15", "fig16", "fig17", "atlas"),
    *("fig18", "fig19", "fig20", "fig21", "fig22", "fig23", "fig24", "fig25", "fig26", "fig27", "protocol"),
    *("certified", "spikeguard"),
)


def load(name: str) -> Experiment:
    """The experiment of that name; an unknown one is a ``ValueError`` that lists all.

    >>> load("fig04").title
    'Grokking probability of the exponential model'
    """
    choice("experiment", name, NAMES)
    experiment: Experiment = import_module(f"grokphase.experiments.{name}").EXPERIMENT
    return experiment
