"""Figure 25: mean effective dimension of the full student about its transition, for the 2-local and the 3-local rule.

As Fig. 20, with rule 30 iterated two and three times: :mod:`grokphase.experiments.fig20`.

References: Žunkovič & Ilievski 2024, App. D, Fig. 25.
"""

from grokphase.experiments.fig20 import dimension_experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = dimension_experiment(
    "fig25",
    (2, 3),
    "Effective dimension, K = 2 and 3",
    "The more cells a rule sees, the more directions its student needs: the effective dimension after the transition "
    "rises from about one to five. (The runs are those of Fig. 24.)",
)
