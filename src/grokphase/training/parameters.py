r"""Parameters of a block of members, their first values, and Adam.

Every array has the member as its first axis, so a block is one value.  What a scenario does not train
(boundary vectors, scale) is kept among the parameters with a gradient of zero, which Adam leaves alone.

Adam (Kingma & Ba 2015) on the gradient g of loss and penalties, with β₁, β₂, η, ϵ and step count k:

    m ← β₁ m + (1 − β₁) g,    v ← β₂ v + (1 − β₂) g²,    θ ← θ − η (m/(1 − β₁^k)) / ((v/(1 − β₂^k))^½ + ϵ).

Penalties are added to g before the moments (coupled): λ₁ sgn θ + λ₂ θ.  All of it is one pass over a member's
parameters laid out as one row: at small bond a step is so cheap that passes count.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from grokphase.training.scenario import Scenario

__all__ = ["Adam", "Hyper", "Parameters", "adam_step", "first_moments", "flat", "hyper", "initial", "unflat"]

Array = jax.Array


class Parameters(NamedTuple):
    """What is trained; m is the number of members."""

    attention: Array  # (m, 2, bond, bond)
    classifier: Array  # (m, 2, bond, bond)
    scale: Array  # (m,)
    left: Array  # (m, bond)
    right: Array  # (m, bond)


class Adam(NamedTuple):
    """First and second moments, (m, number of parameters)."""

    first: Array
    second: Array


class Hyper(NamedTuple):
    """Numbers that change no shape, so that one compiled program serves them all."""

    learning_rate: Any
    first_decay: Any
    first_gain: Any  # 1 − β₁; and ln β₁ below: both lose digits if left to single precision
    first_log_decay: Any
    second_decay: Any
    second_gain: Any
    second_log_decay: Any
    epsilon: Any
    l1: Any
    l2: Any


def hyper(scenario: Scenario, dtype: Any) -> Hyper:
    """The scenario's numbers, as arrays."""
    decays = [part for beta in scenario.moments for part in (beta, 1 - beta, np.log(beta) if beta else -np.inf)]
    numbers = (scenario.learning_rate, *decays, scenario.adam_epsilon, scenario.l1, scenario.l2)
    return Hyper(*(jnp.asarray(number, dtype) for number in numbers))


def initial(scenario: Scenario, keys: Array, dtype: Any) -> Array:
    """First parameters of the members with the given keys, a row each.

    A, B are Gaussian; boundary vectors are e₀, or random directions if they are trained.
    """
    bond = scenario.bond
    size = 4 * bond**2 + 1 + 2 * bond
    drawn = unflat(jax.vmap(lambda key: jax.random.normal(key, (size,), dtype))(keys), bond)
    if scenario.boundary == "fixed":
        left = right = jnp.zeros_like(drawn.left).at[:, 0].set(1)
    else:
        left, right = (edge / jnp.linalg.norm(edge, axis=1, keepdims=True) for edge in (drawn.left, drawn.right))
    std, scale = scenario.initial_std, jnp.full_like(drawn.scale, scenario.initial_scale)
    return flat(Parameters(std * drawn.attention, std * drawn.classifier, scale, left, right))


def flat(parameters: Parameters) -> Array:
    """Parameters, or their gradient, as a row a member, (m, number of parameters)."""
    members = parameters.scale.shape[0]
    return jnp.concatenate([leaf.reshape(members, -1) for leaf in parameters], axis=1)


def unflat(rows: Any, bond: int) -> Parameters:
    """The inverse of :func:`flat`; any leading axes."""
    lead, square = rows.shape[:-1], 2 * bond * bond
    shapes = ((2, bond, bond), (2, bond, bond), (), (bond,), (bond,))
    ends = np.cumsum([square, square, 1, bond, bond])
    starts = [0, *ends[:-1]]
    return Parameters(
        *(rows[..., start:end].reshape((*lead, *shape)) for start, end, shape in zip(starts, ends, shapes, strict=True))
    )


def first_moments(rows: Array) -> Adam:
    """Moments before the first step."""
    return Adam(jnp.zeros_like(rows), jnp.zeros_like(rows))


def adam_step(
    rows: Array, moments: Adam, gradient: Parameters, count: Array, numbers: Hyper, scenario: Scenario
) -> tuple[Array, Adam, Array]:
    """One step on the gradient of the loss, penalties added.

    Parameters
    ----------
    rows
        Parameters before the step, (m, number of parameters).
    moments
        Before the step.
    gradient
        Of the loss without penalties.
    count
        Number of the step, from 1, (m,).
    numbers
        Of the scenario.
    scenario
        Says what is trained and what is penalised.

    Returns
    -------
    rows, moments
        After the step; as before for a member with a gradient that is not finite.
    finite
        Whether the gradient is, (m,).
    """
    n, k = numbers, count.astype(rows.dtype)
    unbias1, unbias2 = (-1 / jnp.expm1(k * log)[:, None] for log in (n.first_log_decay, n.second_log_decay))
    rate = n.learning_rate * unbias1
    slope = flat(_trained(gradient, scenario))
    finite = jnp.isfinite(slope).all(axis=1)
    slope = slope + jnp.asarray(_penalised(scenario), rows.dtype) * (n.l1 * jnp.sign(rows) + n.l2 * rows)
    first = n.first_decay * moments.first + n.first_gain * slope
    second = n.second_decay * moments.second + n.second_gain * slope * slope
    moved = rows - rate * first / (jnp.sqrt(second * unbias2) + n.epsilon)

    def keep(new: Array, old: Array) -> Array:
        return jnp.where(finite[:, None], new, old)

    return keep(moved, rows), Adam(keep(first, moments.first), keep(second, moments.second)), finite


def _trained(gradient: Parameters, scenario: Scenario) -> Parameters:
    """The gradient with zeros for what is not trained."""
    if not scenario.trained_scale:
        gradient = gradient._replace(scale=jnp.zeros_like(gradient.scale))
    if scenario.boundary == "fixed":
        gradient = gradient._replace(left=jnp.zeros_like(gradient.left), right=jnp.zeros_like(gradient.right))
    return gradient


def _penalised(scenario: Scenario) -> NDArray[np.float64]:
    """One for every element of a row that penalties act on."""
    others = scenario.penalise == "all"
    scale = float(others and scenario.trained_scale)
    edges = float(others and scenario.boundary == "trained")
    sizes = [4 * scenario.bond**2, 1, 2 * scenario.bond]
    return np.repeat([1.0, scale, edges], sizes)
