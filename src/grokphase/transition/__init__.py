"""Measurements of a transition, from arrays: they know nothing of how the numbers came to be."""

from grokphase.transition.boundary import PUBLISHED_BINS, BoundaryDivergence, boundary_divergence, largest_density
from grokphase.transition.dimension import effective_dimension
from grokphase.transition.dip_statistic import Dip, dip
from grokphase.transition.modes import Modality, modality
from grokphase.transition.separation import ClassGap, class_gap

__all__ = [
    "PUBLISHED_BINS",
    "BoundaryDivergence",
    "ClassGap",
    "Dip",
    "Modality",
    "boundary_divergence",
    "class_gap",
    "dip",
    "effective_dimension",
    "largest_density",
    "modality",
]
