"""Ensembles of any size: computed here, by local processes or on a Dask cluster, stored, interrupted, gone on with.

Names are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Status": "grokphase.runs.progress",
    "StoreInUseError": "grokphase.runs.lock",
    "open": "grokphase.runs.reading",
    "simulate": "grokphase.runs.ensemble",
    "status": "grokphase.runs.progress",
}

__all__ = ["Status", "StoreInUseError", "open", "simulate", "status"]

if TYPE_CHECKING:
    from grokphase.runs.ensemble import simulate
    from grokphase.runs.lock import StoreInUseError
    from grokphase.runs.progress import Status, status
    from grokphase.runs.reading import open  # noqa: A004


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'grokphase.runs' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)
