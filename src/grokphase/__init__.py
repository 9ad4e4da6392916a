"""Predict, simulate and measure grokking as a phase transition.

Every public name is loaded on first use (PEP 562), so ``import grokphase`` stays light: a theorist never pays
for plotting or training.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "BallModel": "grokphase.solvable.ball",
    "ExponentialModel": "grokphase.solvable.exponential",
    "GradientFlow": "grokphase.solvable.gradient_flow",
    "IsotropicModel": "grokphase.solvable.isotropic",
    "published": "grokphase.solvable.published",
}

__all__ = ["BallModel", "ExponentialModel", "GradientFlow", "IsotropicModel", "published"]

if TYPE_CHECKING:
    from grokphase.solvable import published
    from grokphase.solvable.ball import BallModel
    from grokphase.solvable.exponential import ExponentialModel
    from grokphase.solvable.gradient_flow import GradientFlow
    from grokphase.solvable.isotropic import IsotropicModel


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'grokphase' has no attribute {name!r}; it has {', '.join(__all__)}")
    module = import_module(_HOME[name])
    value = module if _HOME[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
