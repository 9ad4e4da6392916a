"""Ensembles of the full student: scenarios, and blocks of members trained together.

Names are loaded on first use, so that a scenario can be handled without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {"Scenario": "grokphase.training.scenario", "run_block": "grokphase.training.block"}

__all__ = ["Scenario", "run_block"]

if TYPE_CHECKING:
    from grokphase.training.block import run_block
    from grokphase.training.scenario import Scenario


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'grokphase.training' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
