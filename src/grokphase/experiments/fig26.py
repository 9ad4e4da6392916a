"""Figure 26: distributions of the grokking time of the full student for the 2-local and the 3-local rule.

As Fig. 23: :mod:`grokphase.experiments._time_distributions`.

References: Žunkovič & Ilievski 2024, App. D, Fig. 26.
"""

from grokphase.experiments._time_distributions import distribution_experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = distribution_experiment(
    "fig26",
    ((2, "t_G"), (3, "t_G")),
    "Grokking times, K = 2 and 3",
    "How long after the training error the test error vanishes, for rules that look two and three cells to each side. "
    "Above, the kind of runs that was published; below, all runs. (For K = 3 without penalty the published runs were "
    "followed for longer than ten units of time, ours were not.)",
)
