"""Figure 27: distributions of the zero-test time of the full student for the 2-local and the 3-local rule.

As Fig. 23: :mod:`grokphase.experiments._time_distributions`.

References: Žunkovič & Ilievski 2024, App. D, Fig. 27.
"""

from grokphase.experiments._time_distributions import distribution_experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = distribution_experiment(
    "fig27",
    ((2, "t_eps"), (3, "t_eps")),
    "Zero-test times, K = 2 and 3",
    "How long the test error takes to vanish, for rules that look two and three cells to each side. Above, the kind of "
    "runs that was published; below, all runs, whose curves end at the share that never gets there.",
)
