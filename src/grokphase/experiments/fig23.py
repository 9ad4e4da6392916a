"""Figure 23: distributions of grokking and zero-test times of the full student, K = 1.

:mod:`grokphase.experiments._time_distributions` says how they are drawn and compared.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, Fig. 23.
"""

from grokphase.experiments._time_distributions import distribution_experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = distribution_experiment(
    "fig23",
    ((1, "t_G"), (1, "t_eps")),
    "Grokking and zero-test times",
    "How long the test error takes to vanish (t_ε), and how long after the training error (t_G). Above, the kind of "
    "runs that was published; below, all runs: the share that is not there yet falls from those with a delay at all "
    "to those that never get there.",
)
