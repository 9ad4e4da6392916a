"""Looking at a model without touching its training: errors, activations, their effective dimension.

While one looks, the model is in evaluation mode and without gradients, and afterwards every module's mode and the
states of all global random generators (Python's, NumPy's, PyTorch's on the CPU and on the model's CUDA devices) are
what they were.  Hooks exist only while one looks.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grokphase._checks import integer
from grokphase.transition.dimension import effective_dimension

__all__ = ["Representation", "error_of", "number", "undisturbed"]

_BATCH = 4096


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random states are restored, also after an exception."""
    modes = [(module, module.training) for module in model.modules()]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one, as others use it
    with torch.random.fork_rng(devices=sorted(device.index for device in devices)), torch.no_grad():
        try:
            for module, _ in modes:
                module.training = False  # without eval(), which some layers override to change their weights
            yield
        finally:
            for module, training in modes:
                module.training = training
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def error_of(name: str, model: nn.Module, source: Any) -> Callable[[], float]:
    """A function for the error now: the user's own, or the share of examples whose largest output is a wrong one."""
    if callable(source):
        return lambda: _fraction(name, source())
    if not isinstance(source, tuple | list) or len(source) != 2 or not all(isinstance(x, Tensor) for x in source):
        raise ValueError(
            f"{name} must be a pair of tensors (inputs, targets) or a function that returns the error, "
            f"got {type(source).__name__}"
        )
    inputs, targets = source
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"{name} must hold as many inputs as targets, got {len(inputs)} and {len(targets)}")

    def error() -> float:
        device = next((parameter.device for parameter in model.parameters()), inputs.device)
        wrong, total = torch.zeros((), dtype=torch.int64, device=device), 0
        for start in range(0, len(inputs), _BATCH):
            chosen = targets[start : start + _BATCH].to(device)
            mistakes = _mistakes(name, first_tensor(model(inputs[start : start + _BATCH].to(device))), chosen)
            wrong, total = wrong + mistakes.sum(), total + mistakes.numel()
        return float(wrong) / total

    return error


def _fraction(name: str, value: Any) -> float:
    """What a user's function returned; NaN says that there is no error to speak of."""
    error = float(value)
    if not (0.0 <= error <= 1.0 or np.isnan(error)):
        raise ValueError(f"{name} must return an error between 0 and 1, got {error:g}")
    return error


def _mistakes(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the largest output is a wrong one; one that is NaN is wrong."""
    if outputs.shape == targets.shape and targets.is_floating_point() and targets.shape[-1] > 1:
        targets = targets.argmax(-1)  # one-hot, as for a squared loss
    if outputs.ndim > 1 and outputs.shape[:-1] == targets.shape:
        axis = -1
    elif outputs.ndim > 2 and (outputs.shape[0], *outputs.shape[2:]) == tuple(targets.shape):
        axis = 1
    else:
        axis = None
    if axis is None or outputs.shape[axis] < 2:
        raise ValueError(
            f"{name} must have targets that number the outputs, got outputs of shape {tuple(outputs.shape)} and "
            f"targets of shape {tuple(targets.shape)}: give a function that returns the error instead"
        )
    return (outputs.argmax(axis) != targets) | outputs.isnan().any(axis)


def number(loss: Any) -> float:
    """A loss as a number."""
    if isinstance(loss, Tensor):
        if loss.numel() != 1:
            raise ValueError(f"loss must be a single number, got a tensor of shape {tuple(loss.shape)}")
        loss = loss.detach().item()
    return float(loss)


def first_tensor(output: Any) -> Tensor:
    """The tensor meant by what a module returned: itself, its logits, or the first of several."""
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    several = list(output.values()) if hasattr(output, "values") else output
    if isinstance(several, tuple | list):
        for item in several:
            if isinstance(item, Tensor):
                return item
    raise ValueError(f"a module must return a tensor, logits, or several tensors; got {type(output).__name__}")


class Representation:
    """Activations of one module, as samples of a cloud, and their effective dimension.

    Of each batch and of all batches together at most ``samples`` rows are kept, always the same ones for the same
    shapes: changes from one look to the next come from the weights alone.
    """

    def __init__(self, model: nn.Module, features: Any, samples: int, axis: int, select: Any) -> None:
        self.name, self.module = _found(model, features)
        self.samples = integer("samples", samples, minimum=2)
        self.axis = integer("feature_axis", axis, minimum=-(10**9))
        if select is not None and not callable(select):
            raise ValueError(f"select must be a function of a module's output, got {type(select).__name__}")
        self.select = select
        self._rows: list[Tensor] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep the activations of every forward pass that is made meanwhile."""
        self._rows = []
        with self.module.register_forward_hook(self._keep):
            yield

    def effective_dimension(self) -> float:
        """Of what was collected, which is then dropped; NaN if the activations are not finite or do not vary."""
        if not self._rows:
            raise ValueError(f"features {self.name!r} was not run by the evaluation: name a module that is")
        cloud = self._chosen(torch.cat(self._rows)).cpu().numpy()
        self._rows = []
        if len(cloud) < 2:
            raise ValueError(f"features {self.name!r} gave a single sample: evaluate on more")
        if not np.isfinite(cloud).all():
            return float("nan")
        try:
            return float(effective_dimension(cloud))
        except ValueError:  # all samples are the same
            return float("nan")

    def _keep(self, module: nn.Module, arguments: Any, output: Any) -> None:
        values = first_tensor(output) if self.select is None else self.select(output)
        if not isinstance(values, Tensor) or values.ndim < 2:
            raise ValueError(
                f"features {self.name!r} must give activations with at least two axes: (samples, ..., dims)"
            )
        rows = values.detach().movedim(self.axis, -1).flatten(0, -2)
        kept = self._chosen(rows)
        self._rows.append(kept.to(torch.float64 if kept.dtype == torch.float64 else torch.float32, copy=True))

    def _chosen(self, rows: Tensor) -> Tensor:
        if len(rows) <= self.samples:
            return rows
        # At random, as a stride might meet the same position of every sequence.
        places = np.random.default_rng(0).choice(len(rows), self.samples, replace=False)
        return rows[torch.from_numpy(np.sort(places)).to(rows.device)]


def _found(model: nn.Module, features: Any) -> tuple[str, nn.Module]:
    """The module meant by a name or by itself."""
    names = {name: module for name, module in model.named_modules() if name}
    for name, module in names.items():
        if features is module or features == name:
            return name, module
    if features is model:
        return type(model).__name__, model
    shown = ", ".join(list(names)[:20]) + (", ..." if len(names) > 20 else "")
    raise ValueError(f"features must be a module of the model or its name, one of: {shown}; got {features!r}")
