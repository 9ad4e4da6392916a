r"""Fixed attention on inputs of every length: certificates, exact test error, zero-test time, exponent.

Object.  For fixed tensors the contexts of ever longer inputs are the orbit of an iterated function system; its
closure is all that matters for the error on inputs of every length.  :class:`ThermodynamicLimit` joins one
:class:`~grokphase.student.attention.Attention` (open boundary) with one rule of reach K and answers

    is there a cell of any input of length ≥ 2K+1 that the classifier gets wrong?      ``certify``
    what is the error per cell on endless uniform inputs, or on all of one length?     ``test_error``
    when does a flow reach zero error for good, and with which exponent?               ``zero_test_time``, ``exponent``

A classifier can be right on all of them with a margin only if all contexts of a side lie in a convex cone that is
narrower than a half space and that both matrices map into itself, an *invariant cone*.  (If the contexts
behind each branch do, so do all: a positive combination of contexts that vanishes would still vanish K letters
further on.)

Transients.  Contexts of cells near an end need not lie on the attractor.  With the default boundary vectors
they do: these are the contexts of an endless row of −1.  Otherwise the cones are widened to all contexts that
can be reached from the boundary vectors, and cells with fewer than K neighbours on a side are tested one by one:
``certify`` and ``zero_test_time`` speak of every input of every length ≥ 2K+1.  ``test_error`` without a length
and ``exponent`` speak of the bulk, the attractor alone.

Bond 2 is exact up to rounding: two extreme rays a side (:mod:`~grokphase.student.limit_cones`) and finitely many
corners (:mod:`~grokphase.student.limit_corners`).  Any bond: certified balls around the contexts behind finite
words, and branch and bound over pairs of them (:mod:`~grokphase.student.limit_cover`).

References: Žunkovič & Ilievski 2024, Secs. 4.2.2, 4.3.1.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, integer, real, real_array
from grokphase.rules import CellularAutomaton
from grokphase.student._inputs import checked_length, checked_tensors
from grokphase.student.attention import Attention
from grokphase.student.limit_balls import BallLimit
from grokphase.student.limit_inputs import exact_error
from grokphase.student.limit_planar import PlanarLimit
from grokphase.student.limit_results import Attractor, Certificate, Certificates, Corner, ErrorBounds, Flow, RunExponent

__all__ = ["ThermodynamicLimit"]

_MAX_CELLS = 2**18
_LONGEST_SHORTEST = 14  # as long as the longest training string


class ThermodynamicLimit:
    r"""One rule and one fixed attention on inputs of every length.

    Parameters
    ----------
    attention
        With open boundary.  A batch of attentions of bond 2 is allowed for ``invariant_cone``,
        ``certify_many`` and ``zero_test_time``.
    rule
        Of reach K.

    Raises
    ------
    ValueError
        If the boundary is closed, or a batch has another bond than 2.

    Notes
    -----
    See the module's header for what "every input" means, and what is exact.

    Examples
    --------
    >>> from grokphase.solvable.gradient_flow import GradientFlow
    >>> from grokphase.student import all_inputs, paper_examples
    >>> rule, attention = CellularAutomaton(30), paper_examples[0]
    >>> limit = ThermodynamicLimit(attention, rule)
    >>> inputs = all_inputs(3)  # the training set of the paper
    >>> flow = GradientFlow(attention.features_of_all(3).reshape(24, 8), rule(inputs).reshape(24), l2=0.01)
    >>> trained = flow.stationary().reshape(2, 2, 2)
    >>> certificate = limit.certify(trained)
    >>> certificate.generalises, round(certificate.margin, 4)
    (True, 0.0157)
    >>> start = np.full(8, 0.5)
    >>> time = limit.zero_test_time(flow, start)
    >>> limit.test_error(flow.weights(time - 0.01, start).reshape(2, 2, 2))
    ErrorBounds(lower=3.0517578125e-05, upper=3.0517578125e-05)
    >>> round(float(limit.exponent(flow, start).exponent), 3)
    0.843
    """

    def __init__(self, attention: Attention, rule: CellularAutomaton) -> None:
        if attention.boundary != "open":
            raise ValueError("attention must have an open boundary, got a closed one")
        if attention.batch_shape and attention.bond != 2:
            raise ValueError(
                f"attention must be a single one unless its bond is 2, got a batch {attention.batch_shape} of bond "
                f"{attention.bond}"
            )
        self._attention, self._rule = attention, rule

    @property
    def attention(self) -> Attention:
        """As given."""
        return self._attention

    @property
    def rule(self) -> CellularAutomaton:
        """As given."""
        return self._rule

    @cached_property
    def _balls(self) -> BallLimit:
        return BallLimit(self._attention, self._rule)

    @cached_property
    def _planar(self) -> PlanarLimit:
        return PlanarLimit(self._attention, self._rule)

    @property
    def _engine(self) -> PlanarLimit | BallLimit:
        return self._planar if self._attention.bond == 2 else self._balls

    @property
    def invariant_cone(self) -> NDArray[np.int64]:
        """1 where all contexts lie in invariant cones, −1 where they do not, 0 where this is open; batch shape.

        Where it is −1 no classifier has a margin and every zero-test time is infinite.
        """
        return np.asarray(self._engine.status)

    def attractor(self, depth: int | None = None) -> Attractor:
        """The contexts deep inside long inputs, as sets: cones by their extreme rays, or balls.

        Parameters
        ----------
        depth
            Balls over the words of so many spins (at least K).  None: for bond 2 no balls, only rays; else the
            coarsest cover that proves itself.

        Returns
        -------
        attractor
            ``.left`` and ``.right``, each a :class:`~grokphase.student.limit_results.ContextSet`.

        Raises
        ------
        ValueError
            For a batch, or if ``depth`` is out of range.

        Examples
        --------
        >>> from grokphase.student import paper_examples
        >>> left, right = ThermodynamicLimit(paper_examples[0], CellularAutomaton(30)).attractor()
        >>> left.invariant_cone, left.rays.shape, left.words
        (True, (2, 2, 2), (((1,), ()), ((-1,), ())))
        """
        self._single("attractor")
        if depth is not None:
            depth = integer("depth", depth, minimum=max(self._rule.reach, 1), maximum=16)
        if self._attention.bond != 2:
            return self._balls.attractor(depth)
        rays = self._planar.attractor()
        if depth is None:
            return rays
        balls = self._balls.attractor(depth)
        return Attractor(*(ray.with_balls(ball) for ray, ball in zip(rays, balls, strict=True)))

    def certify(
        self, classifier: ArrayLike, *, shortest: int | None = None, max_cells: int = _MAX_CELLS
    ) -> Certificate:
        """Whether every cell of every input of length ≥ 2K+1 is right: a proof, or a counterexample.

        Parameters
        ----------
        classifier
            Shape (2, bond, bond).
        shortest
            Length from which on inputs count, from 2K+1 (None) to 14: a student need not be right on inputs that
            are shorter than those it was trained on.  More than 2K+1 is decided by balls for bond 2 as well.
        max_cells
            Effort above bond 2: give up where more pairs of balls than this are undecided.

        Returns
        -------
        certificate
            See :class:`~grokphase.student.limit_results.Certificate`.  A counterexample of length up to
            ``shortest`` + 6 is the shortest there is.  ``generalises`` is None if rounding (bond 2) or the effort
            (else) left it open; the message says at which depth it stopped and what to change.

        Raises
        ------
        ValueError
            For a batch of attentions (use :meth:`certify_many`), or a classifier of wrong shape.

        Notes
        -----
        A score of exactly zero is wrong.  The margin is that of unit features: the distance from the
        hyperplane.

        Examples
        --------
        >>> from grokphase.student import paper_examples
        >>> limit = ThermodynamicLimit(paper_examples[0], CellularAutomaton(30))
        >>> certificate = limit.certify(np.ones((2, 2, 2)))
        >>> certificate.generalises, certificate.counterexample
        (False, (array([-1, -1,  1], dtype=int8), 0))
        >>> limit.certify(np.ones((2, 2, 2)), shortest=6).counterexample[0].size
        6
        """
        self._single("certify")
        weights, effort = self._one_classifier(classifier), integer("max_cells", max_cells, minimum=1)
        least = 2 * self._rule.reach + 1
        first = least if shortest is None else integer("shortest", shortest, minimum=least, maximum=_LONGEST_SHORTEST)
        if first == least:
            return self._engine.certify(weights, effort)
        return self._balls.certify(weights, effort, first)

    def certify_many(self, classifiers: ArrayLike) -> Certificates:
        """Certificates of many classifiers, and of a batch of attentions.

        Parameters
        ----------
        classifiers
            Shape (..., 2, bond, bond); leading axes broadcast with the batch of attentions.

        Returns
        -------
        certificates
            Arrays of the broadcast shape, and ``certificates[index]`` for a single one.

        Raises
        ------
        ValueError
            If the shapes do not fit.

        Notes
        -----
        Bond 2: vectorised; the same verdicts as :meth:`certify`, but counterexamples found first need not be the
        shortest (``certificates[index]`` gives that).

        Examples
        --------
        >>> from grokphase.student import paper_examples
        >>> limit = ThermodynamicLimit(paper_examples[0], CellularAutomaton(30))
        >>> certificates = limit.certify_many(np.random.default_rng(0).normal(size=(1000, 2, 2, 2)))
        >>> int(certificates.generalises.sum()), int(certificates.undecided.sum())
        (0, 0)
        """
        weights = self._classifiers(classifiers)
        batch = self._attention.batch_shape
        shape = np.broadcast_shapes(batch, weights.shape[:-3])
        flat = np.broadcast_to(weights, (*shape, *weights.shape[-3:])).reshape(-1, *weights.shape[-3:])
        which = np.broadcast_to(np.arange(int(np.prod(batch))).reshape(batch), shape).reshape(-1) if batch else None

        def explain(number: int) -> Certificate:
            limit = self if which is None else self._member(int(which[number]))
            return limit._engine.certify(flat[number], _MAX_CELLS)

        verdict, margin = np.zeros(len(flat), dtype=np.int64), np.full(len(flat), -np.inf)
        if self._attention.bond == 2:
            verdict, margin = self._planar.verdicts(flat, which)
        for number in np.flatnonzero(verdict == 0):
            certificate = explain(int(number))
            verdict[number] = 0 if certificate.generalises is None else 2 * certificate.generalises - 1
            margin[number] = certificate.margin
        return Certificates(
            (verdict == 1).reshape(shape),
            (verdict == -1).reshape(shape),
            margin.reshape(shape),
            lambda index: explain(int(np.ravel_multi_index(index, shape))),
        )

    def test_error(
        self,
        classifier: ArrayLike,
        tolerance: float = 1e-9,
        *,
        relative_tolerance: float = 0.0,
        length: int | None = None,
        max_cells: int = _MAX_CELLS,
    ) -> ErrorBounds:
        """Error per cell: of the bulk of endless uniform inputs, or of all inputs of one length.

        Parameters
        ----------
        classifier
            Shape (2, bond, bond).
        tolerance
            Largest width of the interval wanted.
        relative_tolerance
            A width of this part of the lower bound is enough as well (for errors that are nearly zero).
        length
            M from 1 to 24: the fraction of wrong cells over all 2**M inputs instead, ends included.
        max_cells
            Effort: where more cells than this are still undecided, the interval stays as wide as it is then.

        Returns
        -------
        lower, upper
            Certified bounds; equal with a length.

        Raises
        ------
        ValueError
            If an argument is out of range, or for a batch of attentions.

        Notes
        -----
        A score of zero is an error.  In the bulk the contexts of both sides are independent given the
        neighbourhood, each distributed by the stationary measure of its iterated function system.  The cells of
        an input of length M differ from the bulk by no more than the measure of what its words leave undecided.

        Examples
        --------
        >>> from grokphase.student import paper_examples
        >>> limit = ThermodynamicLimit(paper_examples[1], CellularAutomaton(30))
        >>> limit.test_error([[[1.0, 0.2], [0.4, -1.0]], [[0.5, -0.3], [0.2, 0.7]]])
        ErrorBounds(lower=0.421875, upper=0.421875)
        >>> limit.test_error([[[1.0, 0.2], [0.4, -1.0]], [[0.5, -0.3], [0.2, 0.7]]], length=10).lower
        0.4015625
        """
        self._single("test_error")
        weights = self._one_classifier(classifier)
        if length is not None:
            fraction = exact_error(self._attention, self._rule, weights, checked_length(length))
            return ErrorBounds(fraction, fraction)
        wanted = (
            real("tolerance", tolerance, minimum=0.0),
            real("relative_tolerance", relative_tolerance, minimum=0.0),
        )
        max_cells = integer("max_cells", max_cells, minimum=1)
        return ErrorBounds(*self._engine.bulk_error(weights, wanted, max_cells))

    def zero_test_time(self, flow: Flow, initial: ArrayLike) -> FloatArray:
        """Time after which a flow makes no error on any input of any length ≥ 2K+1.

        Parameters
        ----------
        flow
            A :class:`~grokphase.solvable.gradient_flow.GradientFlow` on features of the attention.
        initial
            Initial weights, shape (..., 2·bond²).

        Returns
        -------
        time
            Shape (...): 0 if there is no error from the beginning, infinite if that never comes.

        Raises
        ------
        ValueError
            If shapes do not fit, or rounding hides whether there is an invariant cone.

        Notes
        -----
        Bond 2, and attention with finitely many contexts: exact, the last root over the extreme functions.
        Otherwise contexts that are violated last are searched for along the flow until a certificate holds just
        after the last root found: a proof at that time, and at the times at which it was repeated later on.

        Examples
        --------
        See the class.
        """
        return self._engine.zero_test_time(flow, self._initial(initial))

    def exponent(self, flow: Flow, initial: ArrayLike) -> RunExponent:
        """The exponent ν of the transition of given runs, E ∝ (t_ε − t)^ν times a log-periodic function.

        Parameters
        ----------
        flow, initial
            As in :meth:`zero_test_time`.

        Returns
        -------
        exponent
            Time, last corner, exponent, dimensions and log-period, each of the runs' shape.

        Raises
        ------
        ValueError
            If shapes do not fit, for a batch of attentions, or without an invariant cone.

        Notes
        -----
        ν = δ_left + δ_right, see :mod:`~grokphase.student.limit_corners`.  This is of the bulk: boundary vectors
        that are not contexts of the bulk do not enter.

        Examples
        --------
        See the class.
        """
        self._single("exponent")
        return self._engine.exponent(flow, self._initial(initial))

    def exponents(self) -> list[Corner]:
        """All corners that can be the last to cross, each with the exponent of its transition.

        Returns
        -------
        corners
            Ordered by neighbourhood; see :class:`~grokphase.student.limit_results.Corner`.

        Raises
        ------
        ValueError
            For a batch of attentions, without an invariant cone, or where there are infinitely many corners (a
            bond above 2 and contexts that depend on all letters): use :meth:`exponent` there.

        Examples
        --------
        >>> from grokphase.student import paper_examples
        >>> limit = ThermodynamicLimit(paper_examples[2], CellularAutomaton(30))
        >>> sorted({round(corner.exponent, 3) for corner in limit.exponents()})
        [0.383, 0.546, 0.708]
        """
        self._single("exponents")
        return list(self._engine.corners)

    # --- checks
    # -------------------------------------------------------------------------------------------

    def _single(self, what: str) -> None:
        if self._attention.batch_shape:
            raise ValueError(
                f"{what} needs a single attention, got a batch {self._attention.batch_shape}; use certify_many or "
                "one limit for each"
            )

    def _classifiers(self, classifiers: ArrayLike) -> FloatArray:
        weights = checked_tensors("classifier", classifiers)
        bond = self._attention.bond
        if weights.shape[-1] != bond:
            raise ValueError(f"classifier must have shape (..., 2, {bond}, {bond}), got {weights.shape}")
        try:
            np.broadcast_shapes(weights.shape[:-3], self._attention.batch_shape)
        except ValueError:
            raise ValueError(
                f"classifier must broadcast with the batch {self._attention.batch_shape} of attentions, got shape "
                f"{weights.shape}"
            ) from None
        return weights

    def _one_classifier(self, classifier: ArrayLike) -> FloatArray:
        weights = self._classifiers(classifier)
        if weights.ndim != 3:
            raise ValueError(f"classifier must be a single one, shape (2, bond, bond), got {weights.shape}")
        return weights

    def _initial(self, initial: ArrayLike) -> FloatArray:
        weights = real_array("initial", initial, ndim=1)
        if weights.shape[-1] != self._attention.dimension:
            raise ValueError(f"initial must have shape (..., {self._attention.dimension}), got {weights.shape}")
        return weights

    def _member(self, number: int) -> ThermodynamicLimit:
        """The limit of one attention of the batch."""
        where = np.unravel_index(number, self._attention.batch_shape)
        one = self._attention
        return ThermodynamicLimit(Attention(one.tensors[where], one.left[where], one.right[where]), self._rule)
