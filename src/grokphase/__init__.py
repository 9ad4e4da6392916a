"""Predict, simulate and measure grokking as a phase transition.

Every public name is loaded on first use (PEP 562), so ``import grokphase`` stays light: a theorist never pays
for plotting or training.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Attention": "grokphase.student.attention",
    "BallModel": "grokphase.solvable.ball",
    "CellularAutomaton": "grokphase.rules.cellular_automaton",
    "ExponentialModel": "grokphase.solvable.exponential",
    "GradientFlow": "grokphase.solvable.gradient_flow",
    "IsotropicModel": "grokphase.solvable.isotropic",
    "Scenario": "grokphase.training.scenario",
    "ShortScalingWindow": "grokphase.transition.exponent",
    "ThermodynamicLimit": "grokphase.student.limit",
    "Transition": "grokphase.transition.measuring",
    "boundary_divergence": "grokphase.transition.boundary",
    "class_gap": "grokphase.transition.separation",
    "effective_dimension": "grokphase.transition.dimension",
    "measure": "grokphase.transition.measuring",
    "open": "grokphase.runs.reading",
    "paper_examples": "grokphase.student.examples",
    "perceptron_forecast": "grokphase.transition.forecast",
    "published": "grokphase.solvable.published",
    "read_runs": "grokphase.transition.logs",
    "simulate": "grokphase.runs.ensemble",
    "spikes": "grokphase.transition.loss_spikes",
    "trained_student": "grokphase.runs.trained",
    "transition": "grokphase.transition",
}

__all__ = [
    "Attention",
    "BallModel",
    "CellularAutomaton",
    "ExponentialModel",
    "GradientFlow",
    "IsotropicModel",
    "Scenario",
    "ShortScalingWindow",
    "ThermodynamicLimit",
    "Transition",
    "boundary_divergence",
    "class_gap",
    "effective_dimension",
    "measure",
    "open",
    "paper_examples",
    "perceptron_forecast",
    "published",
    "read_runs",
    "simulate",
    "spikes",
    "trained_student",
    "transition",
]

if TYPE_CHECKING:
    from grokphase import transition
    from grokphase.rules.cellular_automaton import CellularAutomaton
    from grokphase.runs.ensemble import simulate
    from grokphase.runs.reading import open  # noqa: A004 - as grokphase.open
    from grokphase.runs.trained import trained_student
    from grokphase.solvable import published
    from grokphase.solvable.ball import BallModel
    from grokphase.solvable.exponential import ExponentialModel
    from grokphase.solvable.gradient_flow import GradientFlow
    from grokphase.solvable.isotropic import IsotropicModel
    from grokphase.student.attention import Attention
    from grokphase.student.examples import paper_examples
    from grokphase.student.limit import ThermodynamicLimit
    from grokphase.training.scenario import Scenario
    from grokphase.transition.boundary import boundary_divergence
    from grokphase.transition.dimension import effective_dimension
    from grokphase.transition.exponent import ShortScalingWindow
    from grokphase.transition.forecast import perceptron_forecast
    from grokphase.transition.logs import read_runs
    from grokphase.transition.loss_spikes import spikes
    from grokphase.transition.measuring import Transition, measure
    from grokphase.transition.separation import class_gap


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'grokphase' has no attribute {name!r}; it has {', '.join(__all__)}")
    module = import_module(_HOME[name])
    value = module if _HOME[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
