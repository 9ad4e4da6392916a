r"""Loss, error and exact gradient of a block of members on all strings of one length, weighted.

Object.  Weights w_x ≥ 0 of the 2^M strings of a length M (a minibatch as counts of its strings) give

    L = Σ_x w_x Σ_i (σ(ŷ_i(x)) − target_i(x))² = Σ_x w_x Σ_i q_i(x)²,    q = σ(−τ ŷ),  τ = ±1 the label,

the error likewise with [τ ŷ ≤ 0] in place of q².  Two kernels give ŷ, both by a few matrix products a member
that act on *all* strings at once:

*Halves* (normalised scores).  h_s ∝ l B_s r with h₀² + h₁² = 1 does not change if a context is multiplied by a
positive number, so contexts need no norm, and the classifier can be carried on instead of them.  With u the
left half of a string, v the right half and i a cell of the left half,

    l_i B_s r_i ∝ (e A_{u_1} ⋯ A_{u_{i−1}} B_s A_{u_{i+1}} ⋯ A_{u_h}) · (A_{v_1} ⋯ A_{v_{M−h}} e'),

2^h·2h rows on the left against 2^{M−h} on the right: trees of depth M/2 instead of M, about 2M·2^{M/2} rows
instead of 2^{M+1}.  Each A_s, and both B_s together, are rescaled to a squared norm of bond a matrix, against
over- and underflow, by factors held constant in the gradient (exact: the scores do not depend on them).

*Tree* (plain scores, ŷ = c·l B_{x_i} r, unit contexts): prefixes and suffixes as in
:mod:`grokphase.student.prefix_tree`, with B applied on the shorter side.

Gradients are reverse-mode derivatives of these; the pointwise part of the halves kernel is written by hand.

Exact up to rounding.  A member whose scores both vanish, or overflow, gets a loss of NaN.

References: Žunkovič & Ilievski 2024, Eqs. 58-63.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from grokphase.rules import CellularAutomaton
from grokphase.training.parameters import Parameters
from grokphase.training.strings import Order, half_lengths, labels, split_targets, symbols_in_order

__all__ = [
    "Outcome",
    "evaluate",
    "order",
    "rescaled",
    "side_by_side",
    "targets",
    "transposed",
    "unit",
    "value_and_gradient",
    "wrong_by_string",
]

Array = jax.Array


class Outcome(NamedTuple):
    """Loss (m,), error (m,), and all scores ŷ/c, of any positive norm, in the kernel's own shape."""

    loss: Array
    error: Array
    scores: Any


def order(normalise: bool) -> Order:
    """How the kernel numbers strings."""
    return "halves" if normalise else "natural"


def targets(rule: CellularAutomaton, length: int, *, normalise: bool, dtype: Any) -> Any:
    """The labels −1/+1 in the kernel's shape."""
    if normalise:
        return tuple(jnp.asarray(part, dtype) for part in split_targets(rule, length))
    return jnp.asarray(labels(rule, symbols_in_order(length, "natural")).T, dtype)


def evaluate(parameters: Parameters, weights: Array, target: Any, length: int, *, normalise: bool) -> Outcome:
    """Loss, error and scores; ``weights`` (m or 1, 2**length), in the kernel's order, sum to 1/length."""
    kernel = _halves if normalise else _tree
    return kernel(parameters, weights, target, length)


def value_and_gradient(
    parameters: Parameters, weights: Array, target: Any, length: int, *, normalise: bool
) -> tuple[Outcome, Parameters]:
    """As :func:`evaluate`, with the gradient of each member's loss."""

    def total(values: Parameters) -> tuple[Array, Outcome]:
        outcome = evaluate(values, weights, target, length, normalise=normalise)
        return outcome.loss.sum(), outcome

    (_, outcome), gradient = jax.value_and_grad(total, has_aux=True)(parameters)
    return outcome, gradient


def wrong_by_string(found: Any, scale: Array, target: Any, length: int, *, normalise: bool) -> Array:
    """Which cells of which strings are wrong, (m, length, 2**length), from an outcome's scores.

    Strings are in the kernel's order, cells in their natural one.
    """
    sign = jnp.sign(scale)
    if not normalise:
        return ~(found * target * sign[:, None, None] > 0)
    left, right = half_lengths(length)
    first, second = (~(own * part * sign[:, None, None, None] > 0) for own, part in zip(found, target, strict=True))
    members = first.shape[0]
    cells = [_own_spin_back(first[:, cell], cell, left).reshape(members, -1) for cell in range(left)]
    mirrored = [_own_spin_back(second[:, cell], cell, right) for cell in range(right)]
    cells += [part.swapaxes(1, 2).reshape(members, -1) for part in reversed(mirrored)]
    return jnp.stack(cells, axis=1)


def side_by_side(tensors: Array) -> Array:
    """Both matrices beside each other: (m, 2, d, d) to (m, d, 2d)."""
    members, _, bond, _ = tensors.shape
    return jnp.moveaxis(tensors, 1, 2).reshape(members, bond, 2 * bond)


def transposed(tensors: Array) -> Array:
    """Both matrices transposed: the mirrored attention."""
    return jnp.swapaxes(tensors, 2, 3)


def rescaled(tensors: Array, *, together: bool = False) -> Array:
    """Matrices (m, 2, d, d), each or both together, brought to squared norm d by a factor without gradient."""
    size = jnp.sum(tensors * tensors, axis=(2, 3), keepdims=True)
    if together:
        size = size.mean(axis=1, keepdims=True)
    return tensors * lax.stop_gradient(lax.rsqrt(size / tensors.shape[-1]))


def unit(rows: Array) -> Array:
    """Rows divided by their norm."""
    return rows * lax.rsqrt(jnp.sum(rows * rows, axis=-1, keepdims=True))


def _halves(parameters: Parameters, weights: Array, target: Any, length: int) -> Outcome:
    left, right = half_lengths(length)
    attention, classifier = rescaled(parameters.attention), rescaled(parameters.classifier, together=True)
    prefix, near_left = _half(attention, classifier, parameters.left, left)
    suffix, near_right = _half(transposed(attention), transposed(classifier), parameters.right, right)
    members = prefix.shape[0]
    counts = weights.reshape(-1, 2**left, 2**right)
    losses, errors, found = [], [], []
    for near, far, half, part, own in (
        (near_left, suffix, left, target[0], counts),
        (near_right, prefix, right, target[1], counts.swapaxes(1, 2)),
    ):
        scores = jnp.einsum("mnd,mfd->mnf", near, far).reshape(members, half, 2, -1)
        own_spin_first = jnp.stack([_own_spin_first(own, cell, half) for cell in range(half)], axis=1)
        loss, error = _normalised_loss(scores, parameters.scale, own_spin_first, part)
        losses.append(loss)
        errors.append(error)
        found.append(scores)
    return Outcome(losses[0] + losses[1], errors[0] + errors[1], tuple(found))


def _half(attention: Array, classifier: Array, edge: Array, half: int) -> tuple[Array, Array]:
    """Rows of one half, grown from its outer end.

    Returns the contexts behind all 2^h words (m, 2^h, d), and the rows with B_s in the place of the matrix of
    one cell, ordered (cell, s, other cells): (m, h·2^h, d).
    """
    members, _, bond, _ = attention.shape
    forward, insert = side_by_side(attention), side_by_side(classifier)
    contexts = [edge[:, None, :]]
    for depth in range(half):
        contexts.append((contexts[-1] @ forward).reshape(members, 2 ** (depth + 1), bond))
    inserted = jnp.concatenate(contexts[:-1], axis=1) @ insert
    rows = jnp.zeros((members, 0, 2, 1, bond), attention.dtype)
    for depth in range(half):
        fresh = inserted[:, 2**depth - 1 : 2 ** (depth + 1) - 1].reshape(members, 2**depth, 2, bond)
        fresh = fresh.swapaxes(1, 2)[:, None]
        if depth:
            carried = rows.reshape(members, depth * 2**depth, bond) @ forward
            rows = jnp.concatenate([carried.reshape(members, depth, 2, 2**depth, bond), fresh], axis=1)
        else:
            rows = fresh
    return contexts[-1], rows.reshape(members, half * 2**half, bond)


def _own_spin_first(values: Array, cell: int, half: int) -> Array:
    """(m, 2^h, n) to (m, 2, 2^{h−1}·n), the spin of one cell first."""
    members, _, others = values.shape
    parts = values.reshape(members, 2**cell, 2, 2 ** (half - 1 - cell), others)
    return jnp.moveaxis(parts, 2, 1).reshape(members, 2, 2 ** (half - 1) * others)


def _own_spin_back(values: Array, cell: int, half: int) -> Array:
    """The inverse of :func:`_own_spin_first`."""
    members = values.shape[0]
    parts = values.reshape(members, 2, 2**cell, 2 ** (half - 1 - cell), -1)
    return jnp.moveaxis(parts, 1, 2).reshape(members, 2**half, -1)


@jax.custom_vjp
def _normalised_loss(scores: Array, scale: Array, weights: Array, target: Array) -> tuple[Array, Array]:
    """Loss and error of scores (m, h, 2, n) that are normalised over their third axis."""
    return _normalised_loss_forward(scores, scale, weights, target)[0]


def _normalised_loss_forward(scores: Array, scale: Array, weights: Array, target: Array) -> tuple[Any, Any]:
    factor = scale[:, None, None]
    first, second = scores[:, :, 0], scores[:, :, 1]
    inverse = lax.rsqrt(first * first + second * second)
    cosine, sine = first * inverse, second * inverse

    def spin(value: Array, number: int) -> tuple[Array, Array, Array]:
        """Loss and error of every cell with this spin, and the derivative of the loss by ŷ."""
        sign, weight = target[:, number], weights[:, :, number]
        doubt = 1 / (1 + jnp.exp(sign * factor * value))  # q = σ(−τ ŷ)
        cost = weight * doubt * doubt
        return cost, jnp.where(doubt < 0.5, 0, weight), -2 * sign * cost * (1 - doubt)

    cost0, wrong0, slope0 = spin(cosine, 0)
    cost1, wrong1, slope1 = spin(sine, 1)
    loss, error, to_scale = (
        jnp.sum(part, axis=(1, 2)) for part in (cost0 + cost1, wrong0 + wrong1, cosine * slope0 + sine * slope1)
    )
    across = factor * inverse * (sine * slope0 - cosine * slope1)  # only turning the pair of scores matters
    return (loss, error), (jnp.stack([sine * across, -cosine * across], axis=2), to_scale)


def _normalised_loss_backward(saved: Any, given: Any) -> tuple[Array, Array, None, None]:
    to_scores, to_scale = saved
    return to_scores * given[0][:, None, None, None], to_scale * given[0], None, None


_normalised_loss.defvjp(_normalised_loss_forward, _normalised_loss_backward)


def _tree(parameters: Parameters, weights: Array, target: Any, length: int) -> Outcome:
    attention, classifier = rescaled(parameters.attention), parameters.classifier
    prefixes = _levels(attention, parameters.left, length - 1, new_spin_last=True)
    suffixes = _levels(transposed(attention), parameters.right, length - 1, new_spin_last=False)
    members, _, bond, _ = attention.shape
    insert, insert_mirrored = side_by_side(classifier), side_by_side(transposed(classifier))
    scores = []
    for cell in range(length):
        near, far = prefixes[cell], suffixes[length - 1 - cell]
        if cell <= length - 1 - cell:
            near = (near @ insert).reshape(members, -1, bond)  # (prefix, spin)
            product = jnp.einsum("mnd,mfd->mnf", near, far)
        else:
            far = (far @ insert_mirrored).reshape(members, -1, 2, bond).swapaxes(1, 2)
            product = jnp.einsum("mnd,msfd->mnsf", near, far)
        scores.append(product.reshape(members, -1))
    found = jnp.stack(scores, axis=1)
    margins = found * target * parameters.scale[:, None, None]
    doubt = lax.logistic(-margins)
    loss = jnp.sum(weights * jnp.sum(doubt * doubt, axis=1), axis=1)
    error = jnp.sum(weights * jnp.sum(jnp.where(margins > 0, 0, jnp.ones_like(margins)), axis=1), axis=1)
    return Outcome(loss, error, found)


def _levels(attention: Array, edge: Array, depth: int, *, new_spin_last: bool) -> list[Array]:
    """Unit contexts behind all words of 0, 1, ..., ``depth`` cells: (m, 2^k, d), first cell most significant."""
    members, _, bond, _ = attention.shape
    forward = side_by_side(attention)
    levels = [unit(edge)[:, None, :]]
    for _ in range(depth):
        children = (levels[-1] @ forward).reshape(members, -1, 2, bond)
        children = children if new_spin_last else children.swapaxes(1, 2)
        levels.append(unit(children.reshape(members, -1, bond)))
    return levels
