"""The paper's formulas by number, as printed and corrected, for comparison only.

Žunkovič & Ilievski 2024, Eqs. 30, 32, 33, 43–47, 86, 89, 90.  Predictions come from the models themselves.
"""

from grokphase.solvable.published.probability import ball_probability
from grokphase.solvable.published.times import fast_time_density, fast_weight, slow_time

__all__ = ["ball_probability", "fast_time_density", "fast_weight", "slow_time"]
