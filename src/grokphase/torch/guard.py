r"""After a loss spike, go back to the state before it if the effective dimension rose; otherwise keep going.

Object.  :class:`~grokphase.transition.spike_rule.SpikeRule`, which decides, put into a PyTorch training loop: here are
the losses, the effective dimension D_eff of one module's activations on fixed probe inputs, and the snapshots of
weights, optimisers and whatever else is named.

Conventions.  A *record* of the rule is ``every`` steps, with the mean of their losses.  D_eff is measured at every
``measure_every``-th record, and at each one from the first of a spike until it is judged.

What it costs.  A snapshot is a copy of weights and optimiser state; ``rule.snapshots`` of them (two) are kept.  One
probe is a forward pass and a small eigenvalue problem.

What it does not do.  Batches go on from where they were, so training does not repeat itself, unless it uses all data at
every step, or random generators are given: a spike that repeats is let pass after ``rule.max_rollbacks`` returns.  Runs
distributed over processes are refused, since these would not decide alike.  Buffers that a module does not save in its
``state_dict`` are not taken back.

References: Žunkovič & Ilievski 2024, Sec. 5.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from grokphase._checks import integer
from grokphase.torch._probing import Representation, number, undisturbed
from grokphase.transition.spike_rule import Action, Phase, SpikeRule, SpikeState

__all__ = ["SpikeEvent", "SpikeGuard"]

_EFFECTS = {-1: "simplified", 0: "unclear", 1: "complicated"}
_ACTIONS = {Action.KEEP: "kept", Action.ROLL_BACK: "rolled back", Action.GIVE_UP: "gave up"}


class SpikeEvent(NamedTuple):
    """A spike that was judged.

    Attributes
    ----------
    step
        Number of steps done when it was.
    action
        "kept", "rolled back", or "gave up": one should have gone back, but had been back too often, or had nowhere to
        go.
    effect
        "simplified", "complicated", "unclear" (also if D_eff was not measurable), or "not finite" of the loss.
    height
        Peak over foot of the loss; infinite if it was not finite.
    dimension_before, dimension_after
        Medians of D_eff; NaN if there is none.
    back_to
        Number of steps after which the state was saved that training went back to; None unless rolled back.
    """

    step: int
    action: str
    effect: str
    height: float
    dimension_before: float
    dimension_after: float
    back_to: int | None


class SpikeGuard:
    """Watches the loss of a training loop and goes back where a spike complicated the representation.

    Parameters
    ----------
    model
        The model, as for :class:`~grokphase.torch.TransitionMonitor`.
    optimizer
        Its optimiser, or several.
    probe
        Inputs, always the same: a tensor, a tuple of arguments or a mapping of them; or a function without arguments
        that runs the model.  A few hundred held-out examples will do.
    features, samples, feature_axis, select
        Representation, as for :class:`~grokphase.torch.TransitionMonitor`.
    rule
        A :class:`~grokphase.torch.SpikeRule`; its ``window`` and ``patience`` are in records.
    every
        Steps in a record.
    measure_every
        Records from one measurement of D_eff to the next while nothing happens; by default a fifth of the window.
    also
        More to be saved and taken back, everything with ``state_dict`` and ``load_state_dict``: schedulers, a gradient
        scaler, averaged weights.
    generators
        Random generators (of PyTorch or NumPy) to be taken back too: training then repeats itself exactly.
    device
        Where snapshots are kept, such as "cpu"; by default where the tensors are.
    on_rollback
        Function of the :class:`SpikeEvent`, called after going back: to lower a learning rate, to reshuffle.

    Raises
    ------
    ValueError
        If an argument is not what it should be, or training is distributed over processes.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    >>> inputs = torch.randn(64, 8)
    >>> targets = (inputs[:, 0] > 0).long()
    >>> guard = SpikeGuard(model, optimizer, probe=inputs, features="1", every=1, rule=SpikeRule(window=10))
    >>> for step in range(60):
    ...     loss = nn.functional.cross_entropy(model(inputs), targets)
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...     event = guard.step(loss if step != 50 else float("nan"))
    ...     if event is not None:
    ...         print(event.step, event.action, event.effect, event.back_to)
    51 rolled back not finite 40
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        probe: Any,
        *,
        features: str | nn.Module,
        rule: SpikeRule | None = None,
        every: int = 10,
        measure_every: int | None = None,
        samples: int = 512,
        feature_axis: int = -1,
        select: Callable[[Any], Tensor] | None = None,
        also: Iterable[Any] = (),
        generators: Iterable[Any] = (),
        device: Any = None,
        on_rollback: Callable[[SpikeEvent], Any] | None = None,
    ) -> None:
        spread = torch.distributed.is_available() and torch.distributed.is_initialized()
        if spread and torch.distributed.get_world_size() > 1:
            raise ValueError("model must be trained in one process: several would not decide alike")
        self.rule = SpikeRule() if rule is None else rule
        if not isinstance(self.rule, SpikeRule):
            raise ValueError(f"rule must be a SpikeRule, got {type(rule).__name__}")
        self.every = integer("every", every, minimum=1)
        default = max(self.rule.window // 5, 1)
        self.measure_every = integer("measure_every", default if measure_every is None else measure_every, minimum=1)
        self._model, self._probe = model, _probe(model, probe)
        self._representation = Representation(model, features, samples, feature_axis, select)
        self._optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
        self._parts = [model, *self._optimizers, *also]
        for part in self._parts:
            if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
                raise ValueError(f"optimizer and also must have state_dict and load_state_dict, got {part!r}")
        self._generators = list(generators)
        for generator in self._generators:
            if not isinstance(generator, torch.Generator | np.random.Generator):
                raise ValueError(f"generators must be of torch or numpy, got {type(generator).__name__}")
        self._device = None if device is None else torch.device(device)
        self._on_rollback = on_rollback

        self.events: list[SpikeEvent] = []
        self._step = 0
        self._state = self.rule.start()
        self._total: Any = 0.0
        self._snapshots = {0: self._snapshot()}

    def step(self, loss: Any) -> SpikeEvent | None:
        """Say that an optimiser step was done; go back if need be.

        Parameters
        ----------
        loss
            Training loss of the step, a number or a tensor; it is looked at only at the end of a record.

        Returns
        -------
        SpikeEvent or None
            If a spike was judged: what it was and what was done.  After "rolled back", weights, optimiser and all else
            that was named are those after step ``back_to``, and gradients are None.

        Raises
        ------
        ValueError
            If the loss is negative or more than one number, or ``features`` was not run by the probe.
        """
        self._step += 1
        if isinstance(loss, Tensor):
            loss = loss.detach().to(torch.promote_types(loss.dtype, torch.float32))
        self._total = self._total + loss
        if self._step % self.every:
            return None
        mean, self._total = number(self._total) / self.every, 0.0
        if mean < 0:
            raise ValueError(f"loss must not be negative, got {mean:g}: a spike is a rise by a factor")

        record = int(self._state.record)
        wanted = int(self._state.phase) != Phase.CALM or record % self.measure_every == 0
        dimension = self._measure() if wanted and np.isfinite(mean) else np.nan
        self._state, verdict = self.rule.update(self._state, mean, dimension)
        action = Action(int(verdict.action))
        event = None
        if action != Action.CONTINUE:
            event = SpikeEvent(
                step=self._step,
                action=_ACTIONS[action],
                effect=_EFFECTS[int(verdict.effect)] if np.isfinite(mean) else "not finite",
                height=float(verdict.height),
                dimension_before=float(verdict.dimension_before),
                dimension_after=float(verdict.dimension_after),
                back_to=(int(verdict.restored_record) + 1) * self.every if action == Action.ROLL_BACK else None,
            )
            self.events.append(event)
        if action == Action.ROLL_BACK:
            self._restore(self._snapshots[int(verdict.restore_slot)])
            if self._on_rollback is not None and event is not None:
                self._on_rollback(event)
        if verdict.save_slot >= 0:
            self._snapshots[int(verdict.save_slot)] = self._snapshot()
        return event

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from, snapshots included, for a checkpoint that ``torch.load`` reads with its defaults.

        Returns
        -------
        dict
            Tensors in it are those of this object: save it before the next step, or copy it.
        """
        return {
            "step": self._step,
            "total": number(self._total),
            "every": self.every,
            "rule": {name: torch.from_numpy(np.array(value)) for name, value in self._state._asdict().items()},
            "parameters": repr(self.rule),
            "snapshots": self._snapshots,
            "events": [list(event) for event in self.events],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Parameters
        ----------
        state
            What :meth:`state_dict` gave.

        Raises
        ------
        ValueError
            If it is of another rule, other steps in a record, or other parts.
        """
        for name, mine in (("parameters", repr(self.rule)), ("every", self.every)):
            if state[name] != mine:
                raise ValueError(f"state must be of a guard with the same rule and every: {state[name]} is not {mine}")
        counts = len(self._parts), len(self._generators)
        for parts, generators in state["snapshots"].values():
            if (len(parts), len(generators)) != counts:
                raise ValueError(
                    f"state must hold {counts[0]} parts and {counts[1]} generators, "
                    f"it holds {len(parts)} and {len(generators)}"
                )
        self._step, self._total = integer("step", state["step"]), state["total"]
        self._state = SpikeState(**{name: value.cpu().numpy().copy() for name, value in state["rule"].items()})
        self._snapshots = {slot: _copied(snapshot, self._device) for slot, snapshot in state["snapshots"].items()}
        self.events = [SpikeEvent(*event) for event in state["events"]]

    def _measure(self) -> float:
        with undisturbed(self._model), self._representation.collecting():
            self._probe()
            return self._representation.effective_dimension()

    def _snapshot(self) -> list[Any]:
        parts = [_copied(part.state_dict(), self._device) for part in self._parts]
        return [parts, [_copied(_random_state(generator), None) for generator in self._generators]]

    def _restore(self, snapshot: list[Any]) -> None:
        parts, generators = snapshot
        for part, saved in zip(self._parts, parts, strict=True):
            part.load_state_dict(_copied(saved, None))  # optimisers would go on to change the tensors they are given
        for generator, saved in zip(self._generators, generators, strict=True):
            if isinstance(generator, torch.Generator):
                generator.set_state(saved)
            else:
                generator.bit_generator.state = copy.deepcopy(saved)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)


def _probe(model: nn.Module, probe: Any) -> Callable[[], Any]:
    """A function that runs the model on the probe."""
    if callable(probe):
        return probe
    named = isinstance(probe, Mapping)
    arguments = list(probe.values()) if named else list(probe) if isinstance(probe, tuple | list) else [probe]
    if not arguments or not all(isinstance(argument, Tensor) for argument in arguments):
        raise ValueError("probe must be a tensor, a tuple or a mapping of tensors, or a function that runs the model")

    def run() -> Any:
        device = next((parameter.device for parameter in model.parameters()), arguments[0].device)
        moved = [argument.to(device) for argument in arguments]
        return model(**dict(zip(probe, moved, strict=True))) if named else model(*moved)

    return run


def _random_state(generator: torch.Generator | np.random.Generator) -> Any:
    return generator.get_state() if isinstance(generator, torch.Generator) else generator.bit_generator.state


def _copied(value: Any, device: torch.device | None) -> Any:
    """A copy that shares nothing; tensors go to the device, if one is given."""
    if isinstance(value, Tensor):
        return value.detach().to(value.device if device is None else device, copy=True)
    if type(value) in (dict, OrderedDict):
        twin = copy.copy(value)  # a module's has an attribute with versions
        for key, item in value.items():
            twin[key] = _copied(item, device)
        return twin
    if type(value) in (list, tuple):
        return type(value)(_copied(item, device) for item in value)
    return copy.deepcopy(value)
