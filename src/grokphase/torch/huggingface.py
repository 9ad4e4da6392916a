"""Callbacks for the Hugging Face ``Trainer``: the monitor and the guard of :mod:`grokphase.torch`.

Thin: they hand over the model, its optimiser and each step's loss, and leave their state in the trainer's checkpoint
folders.  This module can be imported without ``transformers``.  Time is ``state.global_step``.

The trainer does not tell callbacks the loss of a step: a hook on the model reads it from its output, while training
lasts.  With gradient accumulation it is the mean over the parts, which may differ by a constant factor from what the
trainer logs.
"""

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grokphase.torch._following import Follower, Guardian, Recorder

__all__ = ["SpikeGuardCallback", "TransitionCallback"]


def _base() -> type:
    try:
        return import_module("transformers").TrainerCallback
    except ModuleNotFoundError as missing:
        if missing.name != "transformers":
            raise
        return object


if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = _base()


class _Events(Follower, _Callback):
    """What the trainer calls."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._hook: Any = None
        self._losses: list[Tensor] = []

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **more: Any
    ) -> None:
        """Begin, or go on from the checkpoint of this step in the output folder."""
        self._release()
        if self._saved is None and state.global_step > 0:
            path = self._file(args, state)
            if path.exists():
                self._saved = torch.load(path, weights_only=True)
            else:
                warnings.warn(f"there is no {path}: {type(self).__name__} starts anew", stacklevel=2)
        scheduler = more.get("lr_scheduler")
        self._begin(model, optimizer, [] if scheduler is None else [scheduler])
        self._hook = model.register_forward_hook(self._read)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """After each optimiser step."""
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses = []
        self._tell(state.global_step, loss)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Leave the state in the checkpoint's folder."""
        path = self._file(args, state)
        if self._made is not None and state.is_world_process_zero and path.parent.exists():
            torch.save(self._made.state_dict(), path)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Take the hook off the model."""
        self._release()

    def _file(self, args: Any, state: Any) -> Path:
        return Path(args.output_dir) / f"checkpoint-{state.global_step}" / f"grokphase-{type(self).__name__}.pt"

    def _read(self, module: Any, arguments: Any, output: Any) -> None:
        if not (module.training and torch.is_grad_enabled()):
            return
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if loss is None and isinstance(output, tuple) and isinstance(output[0], Tensor) and output[0].ndim == 0:
            loss = output[0]
        if isinstance(loss, Tensor):
            self._losses.append(loss.detach().mean())

    def _release(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook, self._losses = None, []


class TransitionCallback(Recorder, _Events):
    """Records errors, loss and effective dimension; see :class:`~grokphase.torch.TransitionMonitor`.

    Parameters
    ----------
    **options
        Of :class:`~grokphase.torch.TransitionMonitor`, without the model.

    Attributes
    ----------
    monitor
        The monitor, once training has started.  Of several processes, each records; the first one's are saved.
    """


class SpikeGuardCallback(Guardian, _Events):
    """Goes back where a loss spike complicated the representation; see :class:`~grokphase.torch.SpikeGuard`.

    Optimiser and scheduler are taken back with the weights; batches and the trainer's counters go on.

    Parameters
    ----------
    probe, **options
        Of :class:`~grokphase.torch.SpikeGuard`, without model and optimiser.

    Attributes
    ----------
    guard
        The guard, once training has started; its ``events`` say what happened.
    """

    _lost = "the model must return a loss, else SpikeGuardCallback cannot watch it: hand it labels"
