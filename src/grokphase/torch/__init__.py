"""Record and guard the training of a PyTorch model.

:class:`TransitionMonitor` records errors and the effective dimension of a layer as the dataset that
:func:`grokphase.measure` takes; :class:`SpikeGuard` goes back to the state before a loss spike that complicated the
representation.  Callbacks for Lightning and for the Hugging Face ``Trainer`` are in ``grokphase.torch.lightning`` and
``grokphase.torch.huggingface``, which nothing here imports.
"""

try:
    import torch as _torch  # noqa: F401 - said here, once, for all modules of this package
except ModuleNotFoundError as missing:
    if missing.name != "torch":
        raise
    raise ImportError("grokphase.torch needs PyTorch: install it with  pip install 'grokphase[torch]'") from missing

from grokphase.torch.guard import SpikeEvent, SpikeGuard
from grokphase.torch.monitor import TransitionMonitor, log_spaced
from grokphase.transition.spike_rule import SpikeRule

__all__ = ["SpikeEvent", "SpikeGuard", "SpikeRule", "TransitionMonitor", "log_spaced"]
