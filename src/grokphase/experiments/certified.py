r"""Is zero sampled test error a proof?  Trained students decided by certificates, for inputs of every length.

Object (Secs. 4.3.1 and 4.3.2).  Attention and classifier are trained together on rule 30, as for Figs. 19 and 23 or on
all inputs of one length; a run has *zero test error* when random strings of 1000 cells say so
(:mod:`grokphase.training.zero_error`).  At this time, and at the end of its record, one unit of time later, the
parameters are taken as they are and judged: right on every input as long as the training strings or longer (6 or 8
cells), all cells included, those at the ends too; right throughout or wrong throughout; wrong somewhere, with an input
that shows it; or undecided within the effort (:mod:`grokphase.experiments._verdicts`).

*Sampled.*  Beside every verdict stand 100 random strings of 1000 cells, the same for all students: the fraction of
wrong cells, the fraction of strings with one, and the published average domain size, which counts a string that is
wrong everywhere as perfect.

*Checked.*  All inputs of 3 to 14 cells are scored one by one.  A proof must find no wrong cell among those that are
long enough, or whole inputs as it says; a counterexample of such a length must find some.

Exact per student, up to rounding that the balls contain; the fractions are those of the runs at hand.
"""

import tomllib
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from grokphase import CellularAutomaton, ThermodynamicLimit
from grokphase._checks import FloatArray, choice, integer
from grokphase.experiments._ensembles import OBSERVE, REGULARISATIONS, RULE, bonds_of
from grokphase.experiments._framework import SCALES, Comparison, Ensemble, Experiment, Progress, Scale, variable
from grokphase.experiments._style import COLOURS, MUTED, panel_title, style
from grokphase.experiments._verdicts import EFFORT, ENDS, ERRS, KINDS, OPEN, RIGHT, SIGNS, THROUGHOUT, judge
from grokphase.runs.trained import TrainedStudent, trained_student
from grokphase.training import Scenario

__all__ = ["EXPERIMENT", "LENGTHS", "contradiction", "sampled"]

PROTOCOLS: dict[Scale, tuple[str, ...]] = {"quick": ("published",), "paper": ("published", "all-inputs")}
BONDS: dict[Scale, tuple[int, ...]] = {"quick": (4, 10), "paper": (4, 10, 20, 40)}
MEMBERS: dict[Scale, int] = {"quick": 12, "paper": 32}
TIMES = ("zero_test", "last")
LENGTHS = range(3, 15)  # all inputs of these are scored
STRINGS, CELLS = 100, 1000
THRESHOLD = 0.99  # of the average domain size, as published
ABSENT = -1  # kind of a run that never reached zero test error


def ensembles(scale: Scale, seed: int, *, members: int = 0, bonds: str | Sequence[int] = ()) -> dict[str, Ensemble]:
    """The first runs of the ensembles of Fig. 19 (and those of all inputs of length 8), with their parameters.

    Parameters
    ----------
    scale
        ``"quick"``: 12 runs each, bond 4 and 10, as published.  ``"paper"``: 32, also 20 and 40, both protocols.
    seed
        Of all random numbers.
    members
        Runs an ensemble; 0: by scale.
    bonds
        Bond dimensions; none: by scale.

    Returns
    -------
    ensembles
        By protocol, regularisation and bond dimension, in this order.
    """
    size = integer("members", members) or MEMBERS[choice("scale", scale, SCALES)]
    chosen = bonds_of(scale, bonds) if bonds else BONDS[scale]
    found = {}
    for protocol in PROTOCOLS[scale]:
        for name, (l1, l2) in REGULARISATIONS.items():
            for bond in chosen:
                scenario = Scenario(
                    RULE, bond, l1=l1, l2=l2, members=size, seed=seed, protocol=protocol, observe=OBSERVE
                )
                found[f"{protocol}, {name}, d={bond}"] = Ensemble(scenario, TIMES)
    return found


def sampled(student: TrainedStudent, rule: CellularAutomaton, strings: NDArray[np.int64]) -> tuple[float, float, float]:
    """Fraction of wrong cells, fraction of strings with a wrong cell, and average domain size."""
    wrong = student.attention.scores(strings, student.classifier) * rule(strings) <= 0
    stretches = 1 + (wrong[:, 1:] != wrong[:, :-1]).sum(axis=1)
    return float(wrong.mean()), float(wrong.any(axis=1).mean()), float((1 / stretches).mean())


def compute(
    scale: Scale,
    rng: np.random.Generator,
    progress: Progress,
    runs: Mapping[str, xr.Dataset],
    *,
    members: int = 0,
    bonds: str | Sequence[int] = (),
) -> xr.Dataset:
    """Verdicts, samples and complete listings of every run that reached zero test error, at both times."""
    strings = rng.choice([-1, 1], size=(STRINGS, CELLS))
    shape = (len(runs), max(run.sizes["member"] for run in runs.values()), len(TIMES))
    kind, signs, length, cone = (np.full(shape, fill) for fill in (ABSENT, ABSENT, 0, 0))
    shorter = np.zeros(shape, dtype=bool)
    margin = np.full(shape, np.nan)
    bulk, chances, errors = (np.full((*shape, size), np.nan) for size in (2, 3, len(LENGTHS)))
    shortest = np.zeros(len(runs), dtype=int)
    work = [(row, name, int(member)) for row, name in enumerate(runs) for member in runs[name]["member"]]
    for done, (row, name, member) in enumerate(work):
        run, scenario = runs[name], tomllib.loads(runs[name].attrs["scenario"])
        rule = CellularAutomaton(scenario["rule"]["number"])
        shortest[row] = scenario["lengths"][0]
        for time, snapshot in enumerate(TIMES if np.isfinite(run["zero_test_time"].sel(member=member)) else ()):
            place = (row, list(run["member"].to_numpy()).index(member), time)
            student = trained_student(run, member, snapshot)
            limit, verdict = ThermodynamicLimit(student.attention, rule), judge(student, rule, int(shortest[row]))
            kind[place], length[place], cone[place] = verdict.kind, verdict.length, verdict.invariant_cone
            margin[place], bulk[place] = verdict.certificate.margin, verdict.bulk_error
            if verdict.signs is not None:
                signs[place] = list(SIGNS).index(verdict.signs)
            if verdict.kind == RIGHT:
                shorter[place] = bool(limit.certify(student.classifier).generalises)
            chances[place] = sampled(student, rule, strings)
            errors[place] = [limit.test_error(student.classifier, length=cells).lower for cells in LENGTHS]
        progress((done + 1) / len(work))
    each = ("ensemble", "run", "at")
    numbered = ", ".join(f"{number} {name}" for number, name in enumerate(KINDS))
    patterns = ", ".join(f"{number} {name}" for number, name in enumerate(SIGNS.values()))
    return xr.Dataset(
        {
            "kind": variable(each, kind, f"verdict: {numbered}; -1 never at zero test error"),
            "wrong_throughout": variable(
                each, signs, f"inputs that are wrong throughout: {patterns}; -1 no such proof"
            ),
            "counterexample": variable(each, length, "length of the counterexample, 0 without one", "M"),
            "invariant_cone": variable(each, cone, "contexts have an invariant cone: 1 yes, -1 no, 0 not known"),
            "shorter": variable(each, shorter, "proven right on all shorter inputs, from 3 cells on, as well"),
            "margin": variable(each, margin, "margin of the certificate"),
            "bulk_error": variable((*each, "bound"), bulk, "bounds of the error per cell of endless inputs", "E"),
            "test_error": variable(each, chances[..., 0], "fraction of wrong cells of random strings", "E_test"),
            "erring": variable(each, chances[..., 1], "fraction of random strings with a wrong cell"),
            "domain_size": variable(each, chances[..., 2], "average domain size of random strings"),
            "exact_error": variable(
                (*each, "length"), errors, "fraction of wrong cells, all inputs of a length", "E_M"
            ),
            "shortest": variable("ensemble", shortest, "length from which on inputs count"),
        },
        coords={
            "ensemble": list(runs),
            "at": list(TIMES),
            "bound": ["lower", "upper"],
            "length": variable("length", np.array(LENGTHS), "cells of an input", "M"),
        },
    )


def _counts(data: xr.Dataset, at: str) -> NDArray[np.int64]:
    """Runs by ensemble and kind."""
    kind = data["kind"].sel(at=at).to_numpy()
    return np.array([(kind == number).sum(axis=1) for number in range(len(KINDS))]).T


def contradiction(data: xr.Dataset) -> tuple[int, int]:
    """How many verdicts the listing of all inputs of up to 14 cells contradicts, and how many it could.

    Proofs, of either kind, and counterexamples that are short enough to be listed.
    """
    against = possible = 0
    for place in np.argwhere(data["kind"].to_numpy() >= 0):
        row, one, at = (int(number) for number in place)
        case = data.isel(ensemble=row, run=one, at=at)
        kind, shortest, found = (int(case[name]) for name in ("kind", "shortest", "counterexample"))
        error = case["exact_error"]
        if kind in (RIGHT, THROUGHOUT):
            expected = np.zeros(len(LENGTHS)) if kind == RIGHT else _wrong_inputs(int(case["wrong_throughout"]))
            enough = np.array(LENGTHS) >= shortest
            possible += 1
            against += bool((np.abs(error.to_numpy() - expected) > 1e-12)[enough].any())  # fractions of a few digits
        elif 0 < found <= LENGTHS[-1]:
            possible += 1
            against += not float(error.sel(length=found)) > 0
    return against, possible


def _wrong_inputs(pattern: int) -> FloatArray:
    """The fraction of inputs of each length that are wrong throughout."""
    minus, plus, overall = list(SIGNS)[pattern]
    if minus == plus:
        return np.array([float(overall * plus**cells < 0) for cells in LENGTHS])
    return np.full(len(LENGTHS), 0.5)  # as many inputs have an odd number of cells of a kind as have an even one


_COLOURS = {RIGHT: COLOURS[2], THROUGHOUT: COLOURS[3], ENDS: COLOURS[4], ERRS: COLOURS[1], OPEN: "#cccccc"}
_SHOWN_ZERO = 1e-6  # below one of all sampled cells


def draw(data: xr.Dataset) -> Figure:
    """Verdicts of all ensembles at both times; counterexamples by length, against the sampled error."""
    with style():
        rows = data.sizes["ensemble"]
        figure = Figure(figsize=(7.0, 3.6 + 0.14 * rows), layout="constrained")
        top, bottom = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=(1 + 0.14 * rows, 2.4)), dtype=object))
        bars = top.subplots(1, 2, sharey=True)
        for index, (at, axis) in enumerate(zip(TIMES, bars, strict=True)):
            _draw_bars(axis, data, at)
            panel_title(axis, index, ("at zero test error", "at the end of the record")[index])
        bars[0].set_yticks(np.arange(rows), data["ensemble"].to_numpy(), fontsize=6)
        bars[0].invert_yaxis()
        for index, (at, axis) in enumerate(zip(TIMES, bottom.subplots(1, 2, sharex=True, sharey=True), strict=True)):
            _draw_counterexamples(axis, data.sel(at=at))
            panel_title(axis, 2 + index, "counterexamples to those that err")
        handles, labels = bars[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_bars(axis: Axes, data: xr.Dataset, at: str) -> None:
    counts = _counts(data, at)
    left = np.zeros(len(counts))
    for number, name in enumerate(KINDS):
        axis.barh(np.arange(len(counts)), counts[:, number], left=left, color=_COLOURS[number], label=name)
        left += counts[:, number]
    axis.set_xlabel("runs that reached zero test error")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_counterexamples(axis: Axes, data: xr.Dataset) -> None:
    for number in (ENDS, ERRS):
        here = (data["kind"].to_numpy() == number) & (data["counterexample"].to_numpy() > 0)
        error = np.maximum(data["test_error"].to_numpy()[here], _SHOWN_ZERO)
        axis.plot(data["counterexample"].to_numpy()[here], error, "o", ms=3.5, alpha=0.7, color=_COLOURS[number])
    axis.axhline(_SHOWN_ZERO, color=MUTED, lw=0.6, ls=":")
    axis.text(
        0.98, 0.04, "none of 100 000 cells is wrong", transform=axis.transAxes, ha="right", va="bottom", fontsize=6
    )
    axis.set(xscale="log", yscale="log", xlabel="length of the counterexample", ylabel="sampled test error")
    axis.set_ylim(_SHOWN_ZERO / 1.5, 1.5)


def _sum(data: xr.Dataset, at: str) -> tuple[int, list[int]]:
    counts = [int(number) for number in _counts(data, at).sum(axis=0)]
    return sum(counts), counts


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The published criterion against proofs, and the proofs against a listing."""
    why = (
        "zero test error is a statement on random strings: some of them may err a little, long repetitions do not "
        "occur in them, and a string that is wrong everywhere counts as perfect"
    )
    rows = []
    for at, when in zip(TIMES, ("at zero test error", "at the end of the record"), strict=True):
        total, counts = _sum(data, at)
        wrong = total - counts[RIGHT] - counts[OPEN]
        rows.append(
            Comparison(
                f"runs {when} that are right on every input",
                "all: their test error is zero" if at == TIMES[0] else "not given",
                f"{counts[RIGHT]} of {total} proven; {wrong} refuted",
                f"{counts[OPEN]} undecided",
                wrong == 0 or at != TIMES[0],
                why if at == TIMES[0] else "training beyond zero test error makes proofs more frequent, not certain",
            )
        )
    total, counts = _sum(data, TIMES[0])
    rows.append(
        Comparison(
            "runs at zero test error that are wrong at every cell of a whole class of inputs",
            "none: their test error is zero",
            f"{counts[THROUGHOUT]} of {total}, proven",
            f"{counts[OPEN]} undecided",
            counts[THROUGHOUT] == 0,
            "contexts may change sign with every cell; the average domain size does not see an error of all cells",
        )
    )
    against, possible = contradiction(data)
    rows.append(
        Comparison(
            "proofs and counterexamples against a listing of all inputs of 3 to 14 cells",
            "not given",
            f"{against} of {possible} contradicted",
            "every cell of every input",
            against == 0,
            "a check of the certificates by a way that shares none of their balls",
        )
    )
    proven = data["kind"].to_numpy() == RIGHT
    worst = float(data["test_error"].to_numpy()[proven].max(initial=0.0))
    rows.append(
        Comparison(
            "test error of 100 random strings of the students that are proven right",
            "not given",
            f"{worst:.2g} at most, {int(proven.sum())} students",
            "100 000 cells each",
            worst == 0,
            "what is right on every input is right on these",
        )
    )
    return rows


def findings(data: xr.Dataset) -> list[str]:
    """What the verdicts say."""
    total, zero = _sum(data, TIMES[0])
    _, last = _sum(data, TIMES[1])
    if not total:
        return ["No run reached zero test error."]
    sentences = [
        f"When {total} runs reached zero test error, this was provably true of {zero[RIGHT]} of them: right on every "
        f"input as long as their training strings or longer. {zero[ENDS] + zero[ERRS]} still err on some input, "
        f"{zero[ENDS]} of these only near the ends; {zero[THROUGHOUT]} are wrong at every cell of a class of inputs "
        f"and right on all others; {zero[OPEN]} could not be decided.",
        f"At the end of the record {last[RIGHT]} are right on every input, {last[ENDS] + last[ERRS]} err, "
        f"{last[THROUGHOUT]} are right throughout or wrong throughout, {last[OPEN]} undecided.",
    ]
    names = [str(name) for name in data["ensemble"].to_numpy()]
    shares = []
    for regularisation in REGULARISATIONS:
        chosen = [row for row, name in enumerate(names) if name.split(", ")[1] == regularisation]
        parts = [_sum(data.isel(ensemble=chosen), at) for at in TIMES]
        shares.append(f"{regularisation} {parts[0][1][RIGHT]} and {parts[1][1][RIGHT]} of {parts[0][0]}")
    sentences.append(f"Proven right at zero test error and at the end, by penalty: {'; '.join(shares)}.")
    kind, error = data["kind"].to_numpy(), data["test_error"].to_numpy()
    unseen = ((kind == ENDS) | (kind == ERRS)) & (error == 0)
    if unseen.any():
        lengths = data["counterexample"].to_numpy()[unseen]
        sentences.append(
            f"{int(unseen.sum())} of the students that err have no wrong cell among 100 000 random ones; the "
            f"inputs that refute them have {int(lengths.min())} to {int(lengths.max())} cells."
        )
    pattern = data["wrong_throughout"].to_numpy()
    for number, name in enumerate(SIGNS.values()):
        if (pattern == number).any():
            cases = int((pattern == number).sum())
            perfect = int((data["domain_size"].to_numpy()[pattern == number] > THRESHOLD).sum())
            sentences.append(
                f"In {cases} cases {name} are wrong at every cell; the published criterion calls {perfect} of these "
                "students perfect."
            )
    right, shorter = (kind == RIGHT).sum(), int(data["shorter"].to_numpy().sum())
    sentences.append(
        f"Of {right} proofs {shorter} extend to all shorter inputs, from three cells on, which no training string was."
    )
    if (kind == OPEN).any():
        cone = data["invariant_cone"].to_numpy()[kind == OPEN]
        sentences.append(
            f"Undecided: {int((cone == 0).sum())} for which words of up to 13 letters neither prove nor exclude that "
            f"contexts have an invariant cone, since they forget distant cells too slowly; {int((cone == 1).sum())} "
            f"that have one but would need more than {EFFORT} pairs of balls; {int((cone == -1).sum())} that have "
            "none, but no counterexample was found."
        )
    return sentences


EXPERIMENT = Experiment(
    name="certified",
    title="Is zero sampled test error a proof?",
    summary=(
        "A test on random strings cannot show that a student is right on every input; a certificate can. When a run is "
        "said to have reached zero test error, is it right everywhere? Often not yet: some students still err near the "
        "ends or on rare long strings, and some are wrong at every cell of every second length, which the published "
        "criterion takes for perfect. One unit of time later most are proven right."
    ),
    compute=compute,
    draw=draw,
    compare=compare,
    findings=findings,
    options={"members": 0, "bonds": ""},
    ensembles=ensembles,
)
