r"""Record the transition of a PyTorch model: errors, loss and effective dimension at logarithmically spaced steps.

Object.  At chosen steps of a training loop the model's training and test error are evaluated, and from the activations
of one of its modules during the test evaluation the effective dimension D_eff (:func:`grokphase.effective_dimension`).
The records make an ``xarray.Dataset`` of the same form as a simulation's: dimensions (member, time).

Conventions.  Time is the number of optimiser steps done.  ``train_loss`` is the loss handed over at that step, of the
weights before it; errors and D_eff are of the weights after it.

Training is not disturbed: the weights are the same to the last bit as without, unless evaluating has side effects of
its own (:mod:`grokphase.torch._probing` says what is restored).  What it costs is the number of records times the cost
of an evaluation.  Records that would take more than a budget, 5 % of the wall time so far, are left out: which ones
are made then depends on the clock, but all lie on the same schedule.

References: Žunkovič & Ilievski 2024, Secs. 2 and 4.3.1.
"""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import grokphase
from grokphase._checks import integer, integers, real
from grokphase.torch._probing import Representation, error_of, number, undisturbed

__all__ = ["TransitionMonitor", "log_spaced"]

_ABOUT = {
    "train_error": ("training error", "E_train"),
    "test_error": ("test error", "E_test"),
    "train_loss": ("training loss of the step", "L"),
    "effective_dimension": ("effective dimension of the activations", "D_eff"),
}


def log_spaced(per_decade: int, last: int) -> list[int]:
    """Different whole numbers from 1 to ``last``, ``per_decade`` in each decade once they differ.

    Parameters
    ----------
    per_decade
        Numbers from 1 to 10, 10 to 100, ...
    last
        No number is larger.

    Returns
    -------
    list of int
        Ascending.

    Examples
    --------
    >>> log_spaced(4, 100)
    [1, 2, 3, 6, 10, 18, 32, 56, 100]
    """
    per_decade, last = integer("per_decade", per_decade, minimum=1), integer("last", last, minimum=1)
    steps, step = [], 0
    while (step := _next_log_spaced(step, per_decade)) <= last:
        steps.append(step)
    return steps


def _next_log_spaced(step: int, per_decade: int) -> int:
    """The first of the numbers round(10^(k/per_decade)) above ``step``."""
    place = 0 if step < 1 else math.floor(per_decade * math.log10(step))
    while (found := round(10 ** (place / per_decade))) <= step:
        place += 1
    return found


class TransitionMonitor:
    """Records errors, loss and effective dimension of a model that is being trained.

    Parameters
    ----------
    model
        The model; hand over the module itself, not what ``torch.compile`` or ``DistributedDataParallel`` made of it.
    train, test
        What the errors are of: a pair of tensors (inputs, targets), the targets being numbers of classes or one-hot; or
        a function without arguments that returns the error, a fraction between 0 and 1.
    features
        Module of the model, or its name, whose output is the representation.  The evaluation of the test error must
        run it.
    schedule
        Records in each decade of steps, or the steps themselves, each of which is recorded then.
    budget
        Largest share of the wall time, since this was made, that recording may take: a record in a decade's schedule
        that would exceed it is left out, but for the first.  None: all are made, so the steps are always the same.
    samples
        Number of activations that D_eff is computed from, at most; it cannot exceed this.
    feature_axis
        Axis of the output that counts features; all other axes count samples.  1 for convolutions.
    select
        Function from the module's output to such a tensor, where the output is none; by default its logits, or the
        first tensor of several.
    others
        Further quantities: functions without arguments that return a number, by name.
    member
        Label of this run, to tell it from others when datasets are put together.

    Raises
    ------
    ValueError
        If an argument is not what it should be; at the first record if outputs do not fit the targets or ``features``
        was not run.

    Examples
    --------
    >>> import grokphase as gp
    >>> _ = torch.manual_seed(0)
    >>> inputs = torch.randn(200, 8)
    >>> targets = (inputs[:, 0] > 0).long()
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    >>> train, test = (inputs[:100], targets[:100]), (inputs[100:], targets[100:])
    >>> monitor = TransitionMonitor(model, train=train, test=test, features="1", budget=None)
    >>> for step in range(200):
    ...     loss = nn.functional.cross_entropy(model(train[0]), train[1])
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...     _ = monitor.step(loss)
    >>> runs = monitor.dataset()
    >>> list(runs.data_vars), dict(runs.sizes)
    (['train_error', 'test_error', 'train_loss', 'effective_dimension'], {'member': 1, 'time': 36})
    >>> bool(gp.measure(runs).zero_train_time.reached[0])
    True
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        train: Any,
        test: Any,
        features: str | nn.Module,
        schedule: int | Iterable[int] = 20,
        budget: float | None = 0.05,
        samples: int = 512,
        feature_axis: int = -1,
        select: Callable[[Any], Tensor] | None = None,
        others: Mapping[str, Callable[[], Any]] | None = None,
        member: Any = 0,
    ) -> None:
        self._model = model
        self._train, self._test = error_of("train", model, train), error_of("test", model, test)
        self._representation = Representation(model, features, samples, feature_axis, select)
        self._others = dict(others or {})
        taken = sorted(set(self._others) & {*_ABOUT, "time", "member"})
        if taken:
            raise ValueError(f"others must have names of their own, got {', '.join(taken)}")
        if isinstance(schedule, int | np.integer):
            self._per_decade, self._steps = integer("schedule", schedule, minimum=1), None
        else:
            steps = integers("schedule", list(schedule), minimum=1)
            if steps.ndim != 1 or not steps.size:
                raise ValueError("schedule must be a number of records per decade, or steps")
            self._steps = np.unique(steps).tolist()
        self._budget = math.inf if budget is None else real("budget", budget, minimum=0, maximum=1, exclusive=True)
        self._member = member
        self._step = 0
        self._records: dict[str, list[Any]] = {name: [] for name in ("time", *_ABOUT, *self._others)}
        self._made, self._seconds, self._begin = 0, 0.0, time.perf_counter()
        self._next = self._due_after(0)

    @property
    def overhead(self) -> float:
        """Share of the wall time, since this was made, that recording has taken."""
        return self._seconds / max(time.perf_counter() - self._begin, 1e-12)

    def step(self, loss: Any = None, *, step: int | None = None) -> bool:
        """Say that an optimiser step was done, and record if one is due.

        Parameters
        ----------
        loss
            Training loss of the step, a number or a tensor; it is looked at only if a record is due.
        step
            Number of steps done; by default one more than before.

        Returns
        -------
        bool
            Whether a record was made.

        Raises
        ------
        ValueError
            If ``step`` is not later than the last record.
        """
        done = self._step + 1 if step is None else integer("step", step)
        if done < self._step:
            last = self._records["time"][-1] if self._records["time"] else 0
            if done <= last:
                raise ValueError(f"step must be later than the last record at {last}, got {done}")
        self._step = done
        if done < self._next:
            return False
        if self._steps is None and not self._affordable():
            self._next = self._due_after(done)
            return False
        self.record(loss)
        return True

    def record(self, loss: Any = None) -> None:
        """Record now, whether it is due or not.

        Parameters
        ----------
        loss
            As for :meth:`step`.

        Raises
        ------
        ValueError
            If there is a record of this step.
        """
        if self._records["time"] and self._records["time"][-1] >= self._step:
            raise ValueError(f"step {self._step} is recorded already")
        begin = time.perf_counter()
        row = {"time": self._step, "train_loss": math.nan if loss is None else number(loss)}
        with undisturbed(self._model):
            row["train_error"] = self._train()
            with self._representation.collecting():
                row["test_error"] = self._test()
            row["effective_dimension"] = self._representation.effective_dimension()
            for name, quantity in self._others.items():
                row[name] = number(quantity())
        for name, value in row.items():
            self._records[name].append(value)
        self._next = self._due_after(self._step)
        self._made += 1
        self._seconds += time.perf_counter() - begin

    def dataset(self) -> xr.Dataset:
        """All records, for :func:`grokphase.measure`, :func:`grokphase.spikes` or a file.

        Returns
        -------
        xarray.Dataset
            Variables ``train_error``, ``test_error``, ``train_loss``, ``effective_dimension`` and ``others``,
            dimensions (member, time).  Those of several runs with the same schedule are put together by
            ``xarray.concat(datasets, "member")``.

        Raises
        ------
        ValueError
            If there is no record.
        """
        if not self._records["time"]:
            raise ValueError(f"there is no record yet: {self._step} steps were done")
        variables = {}
        for name, values in self._records.items():
            if name != "time":
                long_name, symbol = _ABOUT.get(name, (name, "–"))
                about = {"long_name": long_name, "symbol": symbol, "units": "1"}
                variables[name] = (("member", "time"), np.array([values], dtype=float), about)
        moments = np.array(self._records["time"], dtype=float)
        parameter = next(self._model.parameters(), torch.empty(0))
        attributes = {
            "source": "grokphase.torch.TransitionMonitor",
            "model": type(self._model).__name__,
            "features": self._representation.name,
            "samples": self._representation.samples,
            "grokphase_version": grokphase.__version__,
            "torch_version": str(torch.__version__),
            "device": str(parameter.device),
            "precision": str(parameter.dtype).removeprefix("torch."),
        }
        coordinates = {
            "member": ("member", [self._member], {"long_name": "number of the run"}),
            "time": ("time", moments, {"long_name": "optimiser steps", "symbol": "t", "units": "1"}),
        }
        return xr.Dataset(variables, coordinates, attributes)

    def state_dict(self) -> dict[str, Any]:
        """Records so far, for a checkpoint; plain numbers, lists and dictionaries.

        Returns
        -------
        dict
        """
        return {"step": self._step, "records": {name: list(values) for name, values in self._records.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; records made since then by this object are dropped.

        Parameters
        ----------
        state
            What :meth:`state_dict` gave.

        Raises
        ------
        ValueError
            If other quantities were recorded.
        """
        records = state["records"]
        if set(records) != set(self._records):
            raise ValueError(
                f"state must hold records of {', '.join(self._records)}; it holds {', '.join(records)}: "
                "make the monitor with the same others"
            )
        self._step = integer("step", state["step"])
        self._records = {name: list(records[name]) for name in self._records}
        self._next = self._due_after(self._step)

    def _affordable(self) -> bool:
        """Whether one more record, as long as those before it on average, stays within the budget."""
        one = self._seconds / max(self._made, 1)
        return self._seconds + one <= self._budget * (time.perf_counter() - self._begin + one) or not self._made

    def _due_after(self, step: int) -> float:
        if self._steps is None:
            return _next_log_spaced(step, self._per_decade)
        place = bisect_right(self._steps, step)
        return self._steps[place] if place < len(self._steps) else math.inf
