"""What Figs. 15 to 17 share: the three published attentions, their training runs and the published units.

The student is trained on all inputs of length 3 (24 cells, as the published train errors k/24 of Fig. 12 show) from
classifiers with standard normal elements.  The published runs do not use the loss of Eq. 19, a mean over cells with
a factor 1/2: taking it ``LOSS`` = 6 times as large (the sum over the three cells of an input, averaged over inputs,
without 1/2) reproduces the published grokking times of Fig. 17; no factor does for inputs of length 4 to 6.  In our
flow this is time LOSS · t and strengths λ/LOSS; here and in the figures times are in published units.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from grokphase import CellularAutomaton, GradientFlow, ThermodynamicLimit, paper_examples
from grokphase._checks import FloatArray
from grokphase.student import all_inputs

__all__ = ["LENGTH", "LOSS", "RULE", "RUNS", "Run", "features_and_labels", "initial_classifiers"]

LOSS = 6.0
LENGTH = 3
SAME = 1e-9  # roots that agree to this fraction are the same one
RULE = CellularAutomaton(30)


def features_and_labels(example: int, length: int = LENGTH) -> tuple[FloatArray, FloatArray]:
    """Features (inputs, length, 8) and labels (inputs, length) of all inputs of a length; examples count from 1."""
    attention = paper_examples[example - 1]
    return attention.features_of_all(length), RULE(all_inputs(length)).astype(float)


def initial_classifiers(rng: np.random.Generator, runs: int) -> FloatArray:
    """Standard normal classifiers as weights, shape (runs, 8)."""
    return rng.standard_normal((runs, 8))


@dataclass(frozen=True)
class Run:
    """One series of Figs. 15 and 17: an example and its regularisation, in published units."""

    example: int
    l1: float = 0.0
    l2: float = 0.0

    @property
    def panel(self) -> str:
        """Name of the panel in the published figures."""
        return f"Example {self.example}"

    @property
    def label(self) -> str:
        """The series as the paper labels it."""
        if self.l1:
            return f"λ₁ = {self.l1:g}"
        return f"λ₂ = {self.l2:g}" if self.l2 else "λ₁ = λ₂ = 0"

    @property
    def series(self) -> str:
        """Name of the series in the published values."""
        if self.l1:
            return f"lambda1={self.l1:g}"
        return f"lambda2={self.l2:g}" if self.l2 else "lambda=0"

    @cached_property
    def flow(self) -> GradientFlow:
        """The exact flow; its time is ``LOSS`` times the published one."""
        features, labels = features_and_labels(self.example)
        return GradientFlow(features.reshape(-1, 8), labels.reshape(-1), l1=self.l1 / LOSS, l2=self.l2 / LOSS)

    @cached_property
    def limit(self) -> ThermodynamicLimit:
        """All inputs of all lengths."""
        return ThermodynamicLimit(paper_examples[self.example - 1], RULE)

    def grokking_times(self, initial: FloatArray) -> FloatArray:
        """Zero-test minus zero-train time, infinite where the test error does not vanish for good."""
        test = self.limit.zero_test_time(self.flow, initial)
        groks = np.isfinite(test)
        train = np.where(groks, self.flow.zero_train_time(initial), 0.0)
        waited = np.where(groks, test - train, np.inf)
        # Where a training sample is the last corner the two times are roots of the same function, equal to rounding.
        return np.where(groks & (waited <= SAME * test), 0.0, waited) / LOSS

    def last_corners(self, initial: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Zero-test time in the bulk, number of the last corner (−1 for none) and its exponent."""
        found = self.limit.exponent(self.flow, initial)
        return found.time / LOSS, np.asarray(found.index), found.exponent


RUNS = (
    *(Run(1, l1=0.01), Run(1, l1=0.1), Run(1, l2=0.1)),
    *(Run(2), Run(2, l1=0.05), Run(2, l2=0.1)),
    *(Run(3), Run(3, l1=0.2), Run(3, l2=0.2)),
)
