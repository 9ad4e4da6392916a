"""Figure 24: mean test error of the full student about its transition, for the 2-local and the 3-local rule.

As Fig. 19, with rule 30 iterated two and three times: :mod:`grokphase.experiments.fig19`.

References: Žunkovič & Ilievski 2024, App. D, Fig. 24.
"""

from grokphase.experiments.fig19 import error_experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = error_experiment(
    "fig24",
    (2, 3),
    "Test error about the transition, K = 2 and 3",
    "Rules that look two and three cells to each side: the mean error falls to zero as for K = 1, over a longer time, "
    "and again the more abruptly the stronger the penalty. The printed slopes are taken further away from the "
    "transition than for K = 1: 4 to 16 epochs for K = 2, 22 to 30 for K = 3.",
)
