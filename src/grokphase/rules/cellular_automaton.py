r"""Local rules: cellular automata with two states and any reach.

Object (Eq. 51): each output cell is a fixed function of the input cells up to ``reach`` K away,

    y_i = rule(x_{i−K}, ..., x_i, ..., x_{i+K}),        x, y ∈ {−1, +1}^M.

Conventions.  A neighbourhood is read as a binary number, left cell most significant, spin +1 as the digit 1.
The ``table`` lists the output spins in the order of that number: the table of an elementary rule (K = 1)
starts with the output for (−1, −1, −1) and ends with that for (+1, +1, +1), as Eq. 52 does.  Bit v of the
(Wolfram) ``number`` is 1 where ``table[v]`` is +1.  So

    neighbourhood  --- --+ -+- -++ +-- +-+ ++- +++
    rule 30         -   +   +   +   +   -   -   -       30 = 2 + 4 + 8 + 16.

Boundaries.  Open: all cells outside the input are −1.  Closed: the input is a ring, x_0 = x_M.

Everything is exact.  Tables are listed in full, so the reach ends at ``MAX_REACH``.

References: Žunkovič & Ilievski 2024, Sec. 4.1 (Eqs. 51, 52); Wolfram (1983) for the numbering.
"""

from __future__ import annotations

from operator import index
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import choice, integer, labels_pm1

__all__ = ["MAX_REACH", "Boundary", "CellularAutomaton", "Spins"]

Boundary = Literal["open", "closed"]
Spins = NDArray[np.int8]
_Codes = NDArray[np.int64]

MAX_REACH = 10
"""The table of a rule of this reach has 2²¹ entries."""


class CellularAutomaton:
    """A local rule on spins −1/+1, the teacher of the student.

    Rules are immutable; two are equal if reach and table are.

    Parameters
    ----------
    rule
        The number of the rule, from 0 to 2**(2**(2K+1)) − 1 (255 for K = 1), or its table: 2**(2K+1) spins
        −1/+1 in the order of the neighbourhood read as a binary number, left cell most significant, +1 as the
        digit 1.
    reach
        K ≥ 0.  By default 1 for a number, and whatever the length says for a table.

    Raises
    ------
    ValueError
        If the number is out of range, the table has a wrong length or holds anything but −1 and +1.

    Examples
    --------
    >>> rule = CellularAutomaton(30)
    >>> rule.table
    array([-1,  1,  1,  1,  1, -1, -1, -1], dtype=int8)
    >>> rule([-1, -1, 1, -1, -1])
    array([-1,  1,  1,  1, -1], dtype=int8)
    >>> rule.iterate(2).reach
    2
    """

    __slots__ = ("_reach", "_table")

    def __init__(self, rule: ArrayLike, reach: int | None = None) -> None:
        if np.ndim(rule) == 0:
            self._reach = _checked_reach(1 if reach is None else reach)
            self._table = _spins(_digits(rule, 2 ** (2 * self._reach + 1)))
        else:
            table = labels_pm1("rule", rule)
            self._reach = _reach_of(table.shape, reach)
            self._table = table.astype(np.int8)
        self._table.flags.writeable = False

    @property
    def reach(self) -> int:
        """Number of cells seen on each side, the paper's K."""
        return self._reach

    @property
    def table(self) -> Spins:
        """Output spins, shape (2**(2K+1),), ordered by the neighbourhood as a binary number (read only)."""
        return self._table

    @property
    def number(self) -> int:
        """The rule's number: bit v is 1 where ``table[v]`` is +1 (Wolfram's number if the reach is 1)."""
        return int.from_bytes(np.packbits(self._table > 0, bitorder="little").tobytes(), "little")

    def __call__(self, x: ArrayLike, boundary: Boundary = "open") -> Spins:
        """Outputs of the rule at every cell.

        Parameters
        ----------
        x
            Spins −1/+1, shape (..., M).
        boundary
            ``"open"``: cells outside the input are −1.  ``"closed"``: the input is a ring.

        Returns
        -------
        y
            Spins of the shape of ``x``, as int8.

        Raises
        ------
        ValueError
            If ``x`` has no cells or holds anything but −1 and +1, or the boundary is unknown.

        Notes
        -----
        Eq. 51.  For a rule made by :meth:`iterate`, open means that the *first* input is −1 outside; the
        cells outside then evolve with the rest.  Applying the elementary rule several times on an open input
        instead resets them to −1 before every step.  The two differ near the ends as soon as the rule maps a
        neighbourhood reaching outside to +1; on a ring they agree.

        Examples
        --------
        >>> CellularAutomaton(30)([1, -1, -1, 1], boundary="closed")
        array([-1,  1,  1,  1], dtype=int8)
        """
        cells = labels_pm1("x", x) > 0
        if cells.shape[-1] == 0:
            raise ValueError(f"x must have at least one cell, got shape {cells.shape}")
        length = cells.shape[-1]
        if choice("boundary", boundary, ("open", "closed")) == "open":
            outside = np.zeros((*cells.shape[:-1], self._reach), dtype=bool)
            padded = np.concatenate([outside, cells, outside], axis=-1)
        else:
            padded = np.take(cells, np.arange(-self._reach, length + self._reach) % length, axis=-1)
        codes = np.zeros(cells.shape, dtype=np.int32)
        for shift in range(2 * self._reach + 1):
            codes = 2 * codes + padded[..., shift : shift + length]
        return self._table[codes]

    def evolve(self, x: ArrayLike, steps: int, boundary: Boundary = "open") -> Spins:
        """The input and its images under repeated application, one row a step (the picture of Fig. 10).

        Parameters
        ----------
        x
            Spins −1/+1, shape (..., M).
        steps
            Number of applications ≥ 0.
        boundary
            As in a call; open resets the cells outside to −1 at every step.

        Returns
        -------
        rows
            Spins, shape (..., steps + 1, M).

        Raises
        ------
        ValueError
            As a call does, or if ``steps`` is negative.

        Examples
        --------
        >>> CellularAutomaton(90).evolve([-1, -1, 1, -1, -1], 2)
        array([[-1, -1,  1, -1, -1],
               [-1,  1, -1,  1, -1],
               [ 1, -1, -1, -1,  1]], dtype=int8)
        """
        rows = [labels_pm1("x", x).astype(np.int8)]
        for _ in range(integer("steps", steps)):
            rows.append(self(rows[-1], boundary))
        return np.stack(rows, axis=-2)

    def iterate(self, times: int) -> CellularAutomaton:
        """The rule applied several times in a row, as one rule of larger reach (the paper's K-local rules).

        Parameters
        ----------
        times
            Number of applications n ≥ 1.

        Returns
        -------
        rule
            Reach n·K, with its own table.

        Raises
        ------
        ValueError
            If ``times`` is not a positive integer or the reach would exceed ``MAX_REACH``.

        Examples
        --------
        >>> CellularAutomaton(30).iterate(2).number
        535945230
        """
        times = integer("times", times, minimum=1)
        reach = self._reach * times
        if reach > MAX_REACH:
            raise ValueError(f"times must keep the reach at most {MAX_REACH}, got {times} × reach {self._reach}")
        digits = self._table > 0
        width = 2 * reach + 1
        codes = np.arange(2**width)
        for _ in range(times):
            width -= 2 * self._reach
            codes = _shrunk(codes, digits, width)
        return CellularAutomaton(_spins(codes), reach)

    def reflect(self) -> CellularAutomaton:
        """The mirrored rule: ``rule.reflect()(x[::-1]) == rule(x)[::-1]`` for every x and both boundaries.

        Examples
        --------
        >>> CellularAutomaton(30).reflect()
        CellularAutomaton(86)
        """
        return CellularAutomaton(self._table[_reversed_digits(2 * self._reach + 1)], self._reach)

    def complement(self) -> CellularAutomaton:
        """The spin-flipped rule: ``rule.complement()(-x) == -rule(x)`` on a ring.

        On an open input the cells outside stay −1, so the equation may fail within ``reach`` cells of an end.

        Examples
        --------
        >>> CellularAutomaton(30).complement()
        CellularAutomaton(135)
        """
        return CellularAutomaton(-self._table[::-1], self._reach)

    def equivalents(self) -> tuple[CellularAutomaton, ...]:
        """The rule's class under mirroring and spin flip: one, two or four rules, sorted by number.

        Examples
        --------
        >>> CellularAutomaton(30).equivalents()
        (CellularAutomaton(30), CellularAutomaton(86), CellularAutomaton(135), CellularAutomaton(149))
        """
        mirrored = self.reflect()
        members = {self, mirrored, self.complement(), mirrored.complement()}
        return tuple(sorted(members, key=lambda rule: rule.number))

    @staticmethod
    def elementary_classes() -> tuple[tuple[int, ...], ...]:
        """The 88 classes of elementary rules (reach 1) as numbers, ordered by the smallest of each class.

        Examples
        --------
        >>> classes = CellularAutomaton.elementary_classes()
        >>> len(classes), classes[:3]
        (88, ((0, 255), (1, 127), (2, 16, 191, 247)))
        """
        every = (CellularAutomaton(number).equivalents() for number in range(256))
        return tuple(sorted({tuple(rule.number for rule in members) for members in every}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CellularAutomaton):
            return NotImplemented
        return self._reach == other._reach and bool((self._table == other._table).all())

    def __hash__(self) -> int:
        return hash((self._reach, self._table.tobytes()))

    def __repr__(self) -> str:
        if self._reach == 1:
            return f"CellularAutomaton({self.number})"
        if self._reach <= 2:
            return f"CellularAutomaton({self.number}, reach={self._reach})"
        return f"<CellularAutomaton of reach {self._reach}>"


def _checked_reach(reach: int) -> int:
    return integer("reach", reach, maximum=MAX_REACH)


def _reach_of(shape: tuple[int, ...], reach: int | None) -> int:
    """Reach K for which a table of this shape has 2**(2K+1) entries."""
    found = (shape[0].bit_length() - 2) // 2 if len(shape) == 1 else -1
    if found < 0 or found > MAX_REACH or shape != (2 ** (2 * found + 1),):
        raise ValueError(
            f"rule must be a number or a table of 2**(2K+1) spins with reach K ≤ {MAX_REACH}, got shape {shape}"
        )
    if reach is not None and _checked_reach(reach) != found:
        raise ValueError(f"reach must be {found} for a table of {shape[0]} spins, got {reach}")
    return found


def _digits(number: ArrayLike, count: int) -> NDArray[np.uint8]:
    """Binary digits of the rule's number, least significant first."""
    try:
        if isinstance(number, bool | np.bool_):
            raise TypeError
        value = index(number)  # type: ignore[arg-type]  # whatever is no integer is turned away here
    except TypeError:
        raise ValueError(f"rule must be an integer or a table of spins, got {number!r}") from None
    if not 0 <= value < 1 << count:
        allowed = f"from 0 to {(1 << count) - 1}" if count <= 32 else f"≥ 0 and below 2**{count}"
        raise ValueError(f"rule must be a number {allowed}, got {value}")
    packed = value.to_bytes((count + 7) // 8, "little")
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count, bitorder="little")


def _spins(digits: NDArray[np.uint8] | _Codes) -> Spins:
    return (2 * digits.astype(np.int8) - 1).astype(np.int8)


def _shrunk(codes: _Codes, digits: NDArray[np.bool_], width: int) -> _Codes:
    """One application to rows of cells held as binary numbers; ``width`` cells of each row remain."""
    window = digits.size - 1
    outputs = np.zeros_like(codes)
    for cell in range(width):  # cell counts from the right end
        outputs |= digits[(codes >> cell) & window].astype(np.int64) << cell
    return outputs


def _reversed_digits(width: int) -> _Codes:
    """The numbers 0 .. 2**width − 1 with their binary digits in reversed order."""
    codes = np.arange(2**width)
    return sum(((codes >> cell) & 1) << (width - 1 - cell) for cell in range(width)) + np.zeros_like(codes)
