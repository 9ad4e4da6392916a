r"""Small networks that learn modular addition, with and without the guard of loss spikes, in NumPy.

Object (Gromov 2023).  Pairs (a, b) of residues modulo a prime p as two one-hot vectors, one hidden layer of quadratic
units without biases, squared loss on the one-hot vector of a + b mod p:

    f(x) = W₂ᵀ (W₁ᵀ x)²,    L = mean over pairs and outputs of (f − y)².

Trained on a random part of all pairs, tested on the others, by AdamW (decoupled weight decay; Loshchilov & Hutter 2019)
on minibatches.  Learning rate, weight decay and batch are such that networks grok and the loss spikes often.

Representation: the hidden units' outputs on a fixed sample of all pairs.  A *record* is ``EVERY`` steps, with the mean
of their losses and, after the last, effective dimension and errors.

Every network is trained once for each rule (None: no guard), with the same first weights, training set and minibatches.
One that goes back takes up weights, moments and step count of a snapshot, and goes on with the minibatches that come.
All are advanced together, as arrays with the network first.

References: A. Gromov, Grokking modular arithmetic, arXiv 2301.02679.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grokphase import effective_dimension
from grokphase._checks import FloatArray
from grokphase.experiments._framework import Progress
from grokphase.transition.spike_rule import Action, SpikeRule

__all__ = ["EVERY", "Histories", "Setting", "loss_and_gradients", "pairs", "train"]

EVERY = 5
_DECAYS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Setting:
    """Network and training."""

    prime: int = 17
    width: int = 96
    trained_part: float = 0.6  # of all pairs
    batch: int = 128
    steps: int = 3500
    learning_rate: float = 0.1
    weight_decay: float = 0.03
    samples: int = 128  # pairs that the effective dimension is measured on


class Histories(NamedTuple):
    """What networks showed, (rule, network, record)."""

    loss: FloatArray
    test_error: FloatArray
    dimension: FloatArray
    action: NDArray[np.int_]
    """Of the guard, see :class:`~grokphase.transition.spike_rule.Action`."""


class Pairs(NamedTuple):
    """All pairs, (p², 2p) one-hot, and the one-hot sums (p², p)."""

    inputs: FloatArray
    sums: FloatArray


def pairs(prime: int) -> Pairs:
    """All pairs of residues and their sums."""
    first, second = np.divmod(np.arange(prime**2), prime)
    one = np.eye(prime, dtype=np.float32)
    return Pairs(np.concatenate([one[first], one[second]], axis=1), one[(first + second) % prime])


def loss_and_gradients(
    first: FloatArray, second: FloatArray, inputs: FloatArray, targets: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Loss (network,) and its gradients.

    Parameters
    ----------
    first, second
        W₁ (network, 2p, width), W₂ (network, width, p).
    inputs, targets
        One-hot, (network, batch, 2p) and (network, batch, p).
    """
    sums = inputs @ first
    squares = sums**2
    wrong = squares @ second - targets
    size = wrong[0].size
    slope = (2 / size) * wrong
    back = 2 * sums * (slope @ second.swapaxes(1, 2))
    return (
        np.sum(wrong**2, axis=(1, 2)) / size,
        inputs.swapaxes(1, 2) @ back,
        squares.swapaxes(1, 2) @ slope,
    )


class _Networks:
    """Weights, moments and step counts, (network, ...)."""

    def __init__(self, setting: Setting, first: FloatArray, second: FloatArray) -> None:
        self.setting = setting
        weights = first.astype(np.float32), second.astype(np.float32)
        self.layers = [(part, np.zeros_like(part), np.zeros_like(part)) for part in weights]
        self.count = np.zeros(len(first), dtype=np.int64)

    @property
    def weights(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """W₁ and W₂."""
        return self.layers[0][0], self.layers[1][0]

    @property
    def state(self) -> list[NDArray[Any]]:
        """Everything that a snapshot holds."""
        return [*self.layers[0], *self.layers[1], self.count]

    def step(self, inputs: FloatArray, targets: FloatArray) -> FloatArray:
        """One step of AdamW; losses before it, (network,)."""
        setting = self.setting
        loss, *gradients = loss_and_gradients(*self.weights, inputs, targets)
        self.count += 1
        unbias = [(1 / (1 - decay ** self.count[:, None, None])).astype(np.float32) for decay in _DECAYS]
        for (weights, mean, square), gradient in zip(self.layers, gradients, strict=True):
            mean += (1 - _DECAYS[0]) * (gradient - mean)
            square += (1 - _DECAYS[1]) * (gradient**2 - square)
            change = mean * unbias[0] / (np.sqrt(square * unbias[1]) + _EPSILON)
            weights -= setting.learning_rate * (change + setting.weight_decay * weights)
        return loss


def train(
    setting: Setting, rules: Sequence[SpikeRule | None], rng: np.random.Generator, networks: int, progress: Progress
) -> Histories:
    """Train every network once for each rule.

    Parameters
    ----------
    setting
        Of all networks.
    rules
        Of the guard; None: no guard.
    rng
        For first weights, training sets and minibatches.
    networks
        How many.
    progress
        Called with the part that is done.

    Returns
    -------
    Histories
    """
    table, count = pairs(setting.prime), len(rules)
    p, width, total = setting.prime, setting.width, setting.prime**2

    def repeated(part: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([part] * count)

    first = rng.normal(scale=(2 / p) ** 0.5, size=(networks, 2 * p, width))
    second = rng.normal(scale=1 / width, size=(networks, width, p))
    size = round(setting.trained_part * total)
    order = np.array([rng.permutation(total) for _ in range(networks)])
    unknown, sample = repeated(order[:, size:]), rng.choice(total, size=min(setting.samples, total), replace=False)
    labels = table.sums.argmax(axis=1)

    trained = _Networks(setting, repeated(first), repeated(second))
    guards = [
        _Guard(rule, slice(place * networks, (place + 1) * networks), trained)
        for place, rule in enumerate(rules)
        if rule is not None
    ]
    seen: list[tuple[FloatArray, ...]] = []
    losses = []
    for step in range(1, setting.steps + 1):
        chosen = np.array([rng.choice(size, setting.batch, replace=False) for _ in range(networks)])
        batch = repeated(np.take_along_axis(order, chosen, axis=1))
        losses.append(trained.step(table.inputs[batch], table.sums[batch]))
        if step % EVERY:
            continue
        loss, losses = np.mean(losses, axis=0), []
        squares = (table.inputs @ trained.weights[0]) ** 2
        wrong = (squares @ trained.weights[1]).argmax(axis=2) != labels
        error = np.take_along_axis(wrong, unknown, axis=1).mean(axis=1)
        dimension = effective_dimension(squares[:, sample])
        action = np.full(count * networks, Action.CONTINUE)
        for guard in guards:
            action[guard.part] = guard.follow(loss[guard.part], dimension[guard.part])
        seen.append((loss, error, dimension, action))
        progress(step / setting.steps)
    shape = count, networks, len(seen)
    return Histories(*(np.stack(part, axis=-1).reshape(shape) for part in zip(*seen, strict=True)))


class _Guard:
    """A rule that some networks follow."""

    def __init__(self, rule: SpikeRule, part: slice, networks: _Networks) -> None:
        self.rule, self.part = rule, part
        self.state = [whole[part] for whole in networks.state]  # views
        self.memory = rule.start((len(self.state[0]),))
        self.kept = [np.repeat(own[:, None], rule.snapshots, axis=1) for own in self.state]

    def follow(self, loss: FloatArray, dimension: FloatArray) -> NDArray[np.int_]:
        """Take one record, go back and save as the rule says; its actions."""
        self.memory, verdict = self.rule.update(self.memory, loss, dimension)
        back, save = np.flatnonzero(verdict.action == Action.ROLL_BACK), np.flatnonzero(verdict.save_slot >= 0)
        for own, kept in zip(self.state, self.kept, strict=True):
            own[back] = kept[back, verdict.restore_slot[back]]
            kept[save, verdict.save_slot[save]] = own[save]
        return np.asarray(verdict.action)
