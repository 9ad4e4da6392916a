"""Callbacks for Lightning: :class:`~grokphase.torch.TransitionMonitor` and :class:`~grokphase.torch.SpikeGuard`.

Thin: they hand over the module, its optimisers and each step's loss, and keep their state in Lightning's checkpoints.
Written for ``lightning.pytorch`` and ``pytorch_lightning`` alike, whichever is there; this module can be imported
without either.  Time is ``trainer.global_step``.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from grokphase.torch._following import Follower, Guardian, Recorder

__all__ = ["SpikeGuardCallback", "TransitionCallback"]


def _base() -> type:
    """The library's class of callbacks; of two installed libraries, the one that is in use."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    for name in sorted(names, key=lambda name: name not in sys.modules):
        try:
            return import_module(name).Callback
        except ModuleNotFoundError as missing:
            if missing.name not in (name, name.split(".")[0]):
                raise
    return object


if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = _base()


class _Events(Follower, _Callback):
    """What Lightning calls."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seen = 0
        self._loss: Any = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, or go on from a checkpoint."""
        schedulers = [configured.scheduler for configured in trainer.lr_scheduler_configs]
        scaler = getattr(getattr(trainer, "precision_plugin", None), "scaler", None)
        also = [*schedulers, *([] if scaler is None else [scaler])]
        self._begin(pl_module, list(trainer.optimizers), also)
        self._seen, self._loss = trainer.global_step, 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After each batch; only the last one before an optimiser step ends a step, whose loss is the sum of theirs."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        self._loss = None if loss is None or self._loss is None else self._loss + loss.detach()
        if trainer.global_step > self._seen:
            self._seen, loss, self._loss = trainer.global_step, self._loss, 0.0
            self._tell(trainer.global_step, loss)

    def state_dict(self) -> dict[str, Any]:
        """For Lightning's checkpoints."""
        if self._made is None:
            return dict(self._saved or {})
        return self._made.state_dict()


class TransitionCallback(Recorder, _Events):
    """Records errors, loss and effective dimension; see :class:`~grokphase.torch.TransitionMonitor`.

    Parameters
    ----------
    **options
        Of :class:`~grokphase.torch.TransitionMonitor`, without the model.

    Attributes
    ----------
    monitor
        The monitor, once training has started.  Of several processes, the first one records.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, or go on from a checkpoint."""
        super().on_train_start(trainer, pl_module)
        self._records_here = trainer.is_global_zero

    def _tell(self, step: int, loss: Any) -> None:
        if self._records_here:
            super()._tell(step, loss)


class SpikeGuardCallback(Guardian, _Events):
    """Goes back where a loss spike complicated the representation; see :class:`~grokphase.torch.SpikeGuard`.

    Optimisers, schedulers and a gradient scaler are taken back with the weights; batches and the trainer's counters go
    on.

    Parameters
    ----------
    probe, **options
        Of :class:`~grokphase.torch.SpikeGuard`, without model and optimiser.

    Attributes
    ----------
    guard
        The guard, once training has started; its ``events`` say what happened.
    """

    _lost = "training_step must return the loss, else SpikeGuardCallback cannot watch it"
