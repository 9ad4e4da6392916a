"""What callbacks of training libraries have in common: something of ours that follows a training, and its state.

A library's module says when training begins and when a step is done, by calling :meth:`Follower._begin` and
:meth:`Follower._tell`; :class:`Recorder` and :class:`Guardian` say what is done then.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from grokphase.torch.guard import SpikeGuard
from grokphase.torch.monitor import TransitionMonitor

__all__ = ["Follower", "Guardian", "Recorder"]


class Follower(ABC):
    """Made with its options before there is a model; follows training when that starts."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = options
        self._made: Any = None
        self._saved: Mapping[str, Any] | None = None

    @abstractmethod
    def _make(self, model: Any, optimizers: Any, also: Sequence[Any]) -> Any:
        """What follows, for a model, its optimisers, and what else must be taken back with them."""

    @abstractmethod
    def _tell(self, step: int, loss: Any) -> None:
        """An optimiser step was done; the loss is None where it is not known."""

    def _begin(self, model: Any, optimizers: Any, also: Sequence[Any]) -> None:
        """Training starts, anew or from the saved state."""
        self._made = self._make(model, optimizers, also)
        if self._saved is not None:
            self._made.load_state_dict(self._saved)
            self._saved = None

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """From a checkpoint; taken up when training starts."""
        self._saved = state_dict or None


class Recorder(Follower):
    """Follows with a :class:`~grokphase.torch.TransitionMonitor`."""

    @property
    def monitor(self) -> TransitionMonitor | None:
        """The monitor; None before training starts."""
        return self._made

    def _make(self, model: Any, optimizers: Any, also: Sequence[Any]) -> TransitionMonitor:
        return TransitionMonitor(model, **self._options)

    def _tell(self, step: int, loss: Any) -> None:
        self._made.step(loss, step=step)


class Guardian(Follower):
    """Follows with a :class:`~grokphase.torch.SpikeGuard`."""

    _lost = "the loss of a step must be known, else SpikeGuardCallback cannot watch it"

    def __init__(self, probe: Any, **options: Any) -> None:
        super().__init__(**options)
        self._probe = probe

    @property
    def guard(self) -> SpikeGuard | None:
        """The guard; None before training starts."""
        return self._made

    def _make(self, model: Any, optimizers: Any, also: Sequence[Any]) -> SpikeGuard:
        also = [*also, *self._options.get("also", ())]
        return SpikeGuard(model, optimizers, self._probe, **{**self._options, "also": also})

    def _tell(self, step: int, loss: Any) -> None:
        if loss is None:
            raise ValueError(self._lost)
        self._made.step(loss)
