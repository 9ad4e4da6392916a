r"""Atlas of the 256 elementary rules: how often Gaussian bond-2 attention solves each of them, decided by certificates.

Object.  An elementary rule is a pair of gates, truth tables of the two neighbours, one for either state of the cell
itself.  The features φ(x) ⊗ l ⊗ r of cells −1 and +1 live in different halves of the feature space, contexts l, r do
not know the cell itself, and the training set (all inputs of length 3) has the same contexts around both.  So each gate
is learned on its own, by the same problem for both halves, with or without penalties:

    a tensor solves the rule (gate₋, gate₊)   ⟺   it solves both gates,

where "solves a gate" means the rule that has this gate for both states.  A gate and its negation are the same problem.
Hence 8 problems decide all 256 rules, and the student knows 24 classes of rules where the automaton has 88: the
states of the cell itself may be exchanged and either gate be negated at will.  Reflection of a rule exchanges left and
right, under which Gaussian tensors are invariant: equal probability, though not the same tensors.  The spin flip
x → −x is no symmetry: cells outside the input are −1.

Some classifier.  With an invariant cone the contexts behind −1 and +1 fill two arcs of a projective line on each side,
and zero scores are the graph of a Möbius map between the lines.  Let X be the cross ratio (b−a)(d−c)/((c−a)(d−b)) of
disjoint arcs [a, b], [c, d].  Some classifier is right on all inputs

    for a constant gate                                  always,
    for gates that look at one neighbour, and for XOR    iff the arcs are disjoint,
    for the AND-like gates (one output differs)          iff they are, and X_left + X_right < 1:

such a map must take one arc of the left into the gap between those of the right, the other into the gap outside, whose
cross ratio is 1 − X_right; and arcs fit into arcs iff their cross ratio is smaller.  Parity is no harder than looking
at one neighbour: its score is the product of two factors.  (X_left = X_right in all tensors drawn, to rounding.)

Exact per tensor.  Not in the paper, except that rule 30 is Fig. 14.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure, FigureBase
from numpy.typing import NDArray

from grokphase import CellularAutomaton, ThermodynamicLimit
from grokphase._checks import FloatArray, real
from grokphase.experiments._framework import (
    STANDARD_ERRORS,
    Comparison,
    Experiment,
    Progress,
    Scale,
    number_of_draws,
    variable,
)
from grokphase.experiments._random_attention import RealPairs, draw_real_pairs, stationary_classifiers
from grokphase.experiments._style import MUTED, colour, panel_title, style
from grokphase.student.limit_planar import PlanarLimit

__all__ = ["EXPERIMENT", "cross_ratios", "gate_rule", "gates_of", "separable"]

BoolArray = NDArray[np.bool_]

DRAWS: dict[Scale, int] = {"quick": 200_000, "paper": 1_000_000}
GATES = ("1", "left", "right", "xor", "only −+", "only +−", "only −−", "only ++")
"""Gates up to negation, in the order of the axes; "only −+" singles out left −1, right +1."""
TABLES = np.array([15, 12, 10, 6, 2, 4, 1, 8])  # bit 2a + b is the output for left a, right b
KINDS = ("constant", "one neighbour or xor", "AND-like")
KIND = np.array([0, 1, 1, 1, 2, 2, 2, 2])
MIRRORED = np.array([0, 2, 1, 3, 5, 4, 6, 7])  # gate after exchange of left and right
FLIPPED = np.array([0, 1, 2, 3, 5, 4, 7, 6])  # gate of the complement x → −x
STRENGTH = 0.0005  # λ₁ of Eq. 19; the maximum of the published curve of Fig. 14, 0.003, with κ = 6
GATE_LABELS = (
    ("1", "0"),
    *((name, f"not {name}") for name in GATES[1:4]),
    *((name, name.replace("only", "all but")) for name in GATES[4:]),
)
CELLS, STEPS, MARGIN = 40, 40, 10  # pixels of a diagram on the wall
PALETTE = LinearSegmentedColormap.from_list("atlas", ["#231151", "#5f187f", "#982d80", "#d3436e", "#f8765c", "#f2a541"])
FIGURE_14_ZERO = 492.5 / 20_000


def gates_of(number: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Gates of a rule for cell −1 and +1: index in ``GATES``, and whether it is negated."""
    table = [(number >> code) & 1 for code in range(8)]
    found = []
    for own in range(2):
        bits = sum(table[4 * a + 2 * own + b] << (2 * a + b) for a in range(2) for b in range(2))
        negated = bits not in TABLES
        found.append((int(np.flatnonzero((15 - bits if negated else bits) == TABLES)[0]), int(negated)))
    return found[0], found[1]


def gate_rule(minus: int, plus: int) -> CellularAutomaton:
    """The rule with two (not negated) gates."""
    table = [(TABLES[plus if (code >> 1) & 1 else minus] >> (2 * (code >> 2) + (code & 1))) & 1 for code in range(8)]
    return CellularAutomaton(2 * np.array(table) - 1)


def cross_ratios(tensors: RealPairs) -> tuple[BoolArray, FloatArray]:
    """Whether the arcs behind −1 and +1 are disjoint, and X: both (2, n), left and right; tensors with a cone."""
    disjoint, ratio = [], []
    for side in PlanarLimit(tensors.attention, CellularAutomaton(0)).sides:
        arcs = side.rays(side.reachable, 1).rays.reshape(-1, 2, 2, 2)  # branch, ray, component
        backwards = _cross(arcs[:, :, 0], arcs[:, :, 1]) < 0
        arcs = np.where(backwards[:, :, None, None], arcs[:, :, ::-1], arcs)
        second_first = _cross(arcs[:, 1, 1], arcs[:, 0, 0]) > 0
        arcs = np.where(second_first[:, None, None, None], arcs[:, ::-1], arcs)
        (a, b), (c, d) = ((arcs[:, branch, 0], arcs[:, branch, 1]) for branch in range(2))
        disjoint.append(_cross(b, c) > 0)
        ratio.append(_cross(a, b) * _cross(c, d) / (_cross(a, c) * _cross(b, d)))
    return np.array(disjoint), np.array(ratio)


def separable(tensors: RealPairs) -> BoolArray:
    """For which kinds of gates some classifier is right on all inputs, shape (kinds, n); tensors with a cone."""
    each, ratio = cross_ratios(tensors)
    disjoint = each.all(axis=0)
    return np.stack([np.ones_like(disjoint), disjoint, disjoint & (ratio.sum(axis=0) < 1)])


def _cross(one: FloatArray, other: FloatArray) -> FloatArray:
    return np.asarray(one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0])


def _solved_gates(tensors: RealPairs, strengths: tuple[float, ...]) -> tuple[BoolArray, int]:
    """Which tensors solve which gates, shape (strengths, gates, n), and how many cases are undecided."""
    attention = tensors.attention
    solved, undecided = np.zeros((len(strengths), len(GATES), len(tensors)), dtype=bool), 0
    for gate in range(len(GATES)):
        rule = gate_rule(gate, gate)
        limit = ThermodynamicLimit(attention, rule)
        for row, l1 in enumerate(strengths):
            certificates = limit.certify_many(stationary_classifiers(attention, rule, l1=l1, l2=0.0))
            solved[row, gate] = certificates.generalises
            undecided += int(certificates.undecided.sum())
    return solved, undecided


def compute(
    scale: Scale, rng: np.random.Generator, progress: Progress, *, draws: int = 0, l1: float = STRENGTH
) -> xr.Dataset:
    """Fractions of tensors that solve each rule, without penalty and with L1, and symmetry checks on them."""
    draws = number_of_draws(scale, draws, DRAWS)
    l1 = real("l1", l1, minimum=0.0)
    flags: list[BoolArray] = []
    possible, undecided, cone = np.zeros(len(KINDS), dtype=np.int64), 0, 0
    done = 0
    for drawn, size in draw_real_pairs(draws, rng):
        tensors, done = drawn.coned, done + size
        cone += len(tensors)
        possible += separable(tensors).sum(axis=1)
        part, open_cases = _solved_gates(tensors, (0.0, l1))
        flags.append(part)
        undecided += open_cases
        progress(done / draws)
    solved = np.concatenate(flags, axis=-1)  # penalty, gate, tensor
    gates, negated = np.moveaxis(np.array([gates_of(number) for number in range(256)]), -1, 0)
    both = np.array([_pairs(each, each) for each in solved]) / draws
    pair = (slice(None), gates[:, 0], gates[:, 1])
    partners = [_paired(solved[0], solved[0][moved], draws) for moved in (MIRRORED, FLIPPED)]
    change = _paired(solved[0], solved[1], draws)
    each_rule, start = "fraction of tensors that solve the rule", rng.choice([-1, 1], size=CELLS)
    return xr.Dataset(
        {
            "fraction": variable(("penalty", "rule"), both[pair], each_rule, "P"),
            "separable": variable(
                "rule", possible[KIND[gates].max(axis=1)] / draws, "fraction of tensors for which some classifier does"
            ),
            "gate": variable(("rule", "own"), gates, "gate of the rule for either state of the cell"),
            "negated": variable(("rule", "own"), negated, "whether the gate is negated"),
            "gate_fraction": variable(
                ("penalty", "gate_name"), solved.sum(axis=-1) / draws, "fraction of tensors that solve the gate"
            ),
            "gate_separable": variable(
                "gate_name", possible[KIND] / draws, "fraction of tensors for which some classifier solves the gate"
            ),
            "partner_difference": variable(
                ("partner", "rule"), [d[gates[:, 0], gates[:, 1]] for d, _ in partners], "fraction minus the partner's"
            ),
            "partner_stderr": variable(
                ("partner", "rule"),
                [e[gates[:, 0], gates[:, 1]] for _, e in partners],
                "standard error of the difference",
            ),
            "l1_change": variable("rule", -change[0][gates[:, 0], gates[:, 1]], "change of the fraction by L1"),
            "l1_change_stderr": variable("rule", change[1][gates[:, 0], gates[:, 1]], "standard error of the change"),
            "diagram": variable(("rule", "step", "cell"), _diagrams(start), "evolution from one random ring", "x_i"),
        },
        coords={
            "penalty": ["none", "L1"],
            "rule": variable("rule", np.arange(256), "number of the rule"),
            "gate_name": list(GATES),
            "partner": ["reflection", "complement"],
        },
        attrs={"draws": draws, "l1": l1, "undecided": undecided, "cone": cone / draws},
    )


def _pairs(one: BoolArray, other: BoolArray) -> FloatArray:
    """How many tensors have flag i of the one and flag j of the other, shape (gates, gates)."""
    return np.asarray(one.astype(float) @ other.astype(float).T)


def _paired(one: BoolArray, other: BoolArray, draws: int) -> tuple[FloatArray, FloatArray]:
    """Difference of the fractions for all pairs of gates, same tensors, with its standard error (McNemar)."""
    shape = (len(one), len(one))
    difference, stderr = np.zeros(shape), np.zeros(shape)
    for i in range(len(one)):
        for j in range(len(one)):
            here, there = one[i] & one[j], other[i] & other[j]
            gained, lost = int((here & ~there).sum()), int((there & ~here).sum())
            difference[i, j] = (gained - lost) / draws
            stderr[i, j] = np.sqrt(gained + lost) / draws
    return difference, stderr


def _diagrams(start: NDArray[np.int64]) -> NDArray[np.int8]:
    return np.array([CellularAutomaton(number).evolve(start, STEPS - 1, boundary="closed") for number in range(256)])


def draw(data: xr.Dataset) -> Figure:
    """The wall of rules, in the order of their gates; below it why some are harder, and the checks."""
    with style():
        figure = Figure(figsize=(7.0, 10.3), layout="constrained")
        grid = figure.add_gridspec(2, 1, height_ratios=(7.7, 2.5))
        top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
        _draw_wall(top.subplots(), top, data)
        axes = bottom.subplots(1, 3)
        _draw_gates(axes[0], data)
        _draw_l1(axes[1], data)
        _draw_partners(axes[2], data)
    return figure


def _draw_wall(axis: Axes, figure: FigureBase, data: xr.Dataset) -> None:
    """One space-time diagram a rule, its ink tinted by the fraction; grey where no tensor solves it."""
    fraction = data["fraction"].sel(penalty="none").values
    solved = fraction[fraction > 0]
    norm = LogNorm(solved.min(initial=0.01), solved.max(initial=0.02))
    frame = CELLS + MARGIN
    wall = np.ones((16 * frame, 16 * frame, 3))
    place = 2 * data["gate"].values + data["negated"].values
    for number, (row, column) in enumerate(place):
        ink = np.array(to_rgb(PALETTE(norm(fraction[number])) if fraction[number] else MUTED))
        alive = data["diagram"].values[number][..., None] > 0
        y, x = MARGIN + row * frame, column * frame
        wall[y : y + STEPS, x : x + CELLS] = np.where(alive, ink, 1 - 0.12 * (1 - ink))
        axis.text(x, y - 2, str(number), fontsize=3.8, color="#606060")
    axis.imshow(wall, interpolation="nearest")
    names = [text for yes, no in GATE_LABELS for text in (yes, no)]
    axis.set_xticks((np.arange(16) + 0.45) * frame, names, rotation=90)
    axis.set_yticks((np.arange(16) + 0.58) * frame, names)
    axis.tick_params(length=0, labelsize=6)
    axis.set_xlabel("gate of the neighbours (left, right) where the cell itself is +1")
    axis.set_ylabel("gate of the neighbours where the cell itself is −1")
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, PALETTE), ax=axis, location="top", fraction=0.014, aspect=60, pad=0.01)
    panel_title(bar.ax, 0, "fraction of Gaussian attention tensors that solve the rule")
    bar.set_ticks([0.02, 0.03, 0.04, 0.05], labels=["0.02", "0.03", "0.04", "0.05"])
    bar.minorticks_off()


def _draw_gates(axis: Axes, data: xr.Dataset) -> None:
    place = np.arange(len(GATES))
    axis.bar(place, data["gate_separable"], width=0.8, color="#dddddd", label="some classifier")
    for shift, penalty, index in ((-0.2, "none", 0), (0.2, "L1", 1)):
        label = "no penalty" if penalty == "none" else rf"$\lambda_1$ = {data.attrs['l1']:g}"
        values = data["gate_fraction"].sel(penalty=penalty)
        axis.bar(place + shift, values, width=0.36, color=colour(index), label=label)
    axis.set_xticks(place, GATES, rotation=90)
    axis.set_ylim(0, 0.085)
    axis.set_ylabel("fraction of tensors")
    axis.legend(loc="upper right", fontsize=6)
    panel_title(axis, 1, "gates, one by one")


def _distinct(data: xr.Dataset) -> BoolArray:
    """One rule of each pair of gates; the others have the same tensors."""
    gate = data["gate"].values
    return np.asarray((data["negated"].values == 0).all(axis=1) & (gate[:, 0] <= gate[:, 1]))


def _draw_l1(axis: Axes, data: xr.Dataset) -> None:
    data = data.isel(rule=_distinct(data))
    kind = KIND[data["gate"].values].max(axis=1)
    before = data["fraction"].sel(penalty="none").values
    for level, name in enumerate(KINDS):
        here = kind == level
        axis.errorbar(
            before[here],
            data["l1_change"].values[here] / before[here],
            data["l1_change_stderr"].values[here] / before[here],
            fmt="o",
            ms=2.5,
            lw=0.6,
            color=colour(level),
            label=name,
        )
    axis.axhline(0, color=MUTED, lw=0.6)
    axis.set_xlabel("fraction without penalty")
    axis.set_ylabel("relative change by L1")
    axis.legend(loc="lower right", fontsize=6, title="hardest gate", title_fontsize=6)
    panel_title(axis, 2, "where L1 helps")


def _draw_partners(axis: Axes, data: xr.Dataset) -> None:
    for index, partner in enumerate(data["partner"].values):
        row = data.isel(rule=_distinct(data)).sel(partner=partner)
        moved = row["partner_stderr"].values > 0
        score = np.sort(row["partner_difference"].values[moved] / row["partner_stderr"].values[moved])
        axis.plot(
            score, (np.arange(score.size) + 0.5) / score.size, ".-", ms=2, lw=0.8, color=colour(index), label=partner
        )
    axis.axvspan(-STANDARD_ERRORS, STANDARD_ERRORS, color="#eeeeee", zorder=0)
    axis.set_xlabel("difference (standard errors)")
    axis.set_ylabel("fraction of rules below")
    axis.legend(loc="upper left", fontsize=6)
    panel_title(axis, 3, "equal to its partner?")


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The one published number, the symmetries, and what the atlas says."""
    draws = data.attrs["draws"]
    fraction = data["fraction"].sel(penalty="none")
    thirty, possible = float(fraction.sel(rule=30)), float(data["separable"].sel(rule=30))
    stderr = np.sqrt(thirty * (1 - thirty) / draws)
    rows = [
        Comparison(
            "rule 30 without penalty",
            f"{FIGURE_14_ZERO:.4g} (finite test)",
            f"{thirty:.4g} certified, {possible:.4g} with some classifier",
            f"s.e. {stderr:.1g}, published {np.sqrt(FIGURE_14_ZERO / 40_000):.1g}",
            thirty < FIGURE_14_ZERO < possible,
            "Fig. 14 is not the fraction of tensors with linearly separable features, as its caption says, but of "
            "those for which training on length 3 finds the plane; its test lets some more pass",
        ),
        _partner_row(
            data, "reflection", "Gaussian tensors are invariant under transposition, which mirrors the student"
        ),
        _partner_row(
            data, "complement", "cells outside are −1, so that x → −x changes the contexts and the training set"
        ),
        _l1_row(data),
    ]
    lowest, highest = int(np.argmin(fraction.values)), int(np.argmax(fraction.values))
    rows.append(
        Comparison(
            "rules that no tensor solves",
            "not given",
            f"{int((fraction == 0).sum())} of 256; rarest {lowest} ({float(fraction[lowest]):.4f}), most frequent "
            f"{highest} ({float(fraction[highest]):.4f})",
            f"{draws} tensors",
            bool((fraction > 0).all()),
            "no rule needs more of the contexts than disjoint arcs and, for AND-like gates, small ones",
        )
    )
    xor = data["gate_fraction"].sel(penalty="none", gate_name="xor")
    hardest = data["gate_fraction"].sel(penalty="none", gate_name="only ++")
    count = draws * float(xor - hardest)
    rows.append(
        Comparison(
            "parity of the neighbours (rules 90, 150) is easier than AND",
            "not given",
            f"{float(xor):.4f} against {float(hardest):.4f}",
            f"s.e. {np.sqrt(draws * float(xor + hardest)) / draws:.1g} at most",
            bool(count > STANDARD_ERRORS * np.sqrt(draws * float(xor + hardest))),
            "a score is a product of what either context says, which is what parity is",
        )
    )
    return rows


def _partner_row(data: xr.Dataset, partner: str, why: str) -> Comparison:
    row = data.sel(partner=partner)
    difference, stderr = row["partner_difference"].values, row["partner_stderr"].values
    score = np.abs(difference) / np.where(stderr > 0, stderr, 1.0)
    worst = int(np.argmax(score))
    equal = bool(score.max() <= STANDARD_ERRORS)
    return Comparison(
        f"{partner} keeps the fraction of every rule",
        "yes" if partner == "reflection" else "no",
        f"{'yes' if equal else 'no'}: rule {worst} differs most, by {difference[worst]:+.2g}",
        f"{score[worst]:.1f} s.e. there",
        equal == (partner == "reflection"),
        why,
    )


def _l1_row(data: xr.Dataset) -> Comparison:
    score = data["l1_change"].values / np.where(data["l1_change_stderr"] > 0, data["l1_change_stderr"], 1.0)
    helped, hurt = (int((sign * score > STANDARD_ERRORS).sum()) for sign in (1, -1))
    gates = data["gate"].values[score > STANDARD_ERRORS]
    used = ", ".join(GATES[gate] for gate in np.unique(gates)) or "none"
    return Comparison(
        "a little L1 increases the fraction",
        "yes, for rule 30",
        f"{helped} rules gain, {hurt} lose, rule 30: {float(data['l1_change'].sel(rule=30)):+.2g}",
        f"beyond {STANDARD_ERRORS} s.e. of paired differences",
        float(data["l1_change"].sel(rule=30)) > 0,
        f"λ₁ = {data.attrs['l1']:g} (Eq. 19); the rules that gain have only the gates {used}",
    )


EXPERIMENT = Experiment(
    name="atlas",
    title="Atlas of the elementary rules",
    summary=(
        "Which rules can random attention learn? All 256, each with one to six tensors in a hundred. The student does "
        "not see the automaton's 88 classes: a rule is two gates of the neighbours, one for each state of the cell, "
        "and is as hard as its gates. Ignoring the neighbours is easiest; parity is easier than AND."
    ),
    compute=compute,
    draw=draw,
    compare=compare,
    options={"draws": 0, "l1": STRENGTH},
)
