r"""Whether the guard of loss spikes helps: the same runs with and without it.

The paper proposes (Sec. 5) to go back to the state before a loss spike if the effective dimension rose over it.  It was
not tried.  Here every run is trained without and with the guard (:class:`~grokphase.transition.spike_rule.SpikeRule`),
with the same random numbers, so that the two are one until the guard first goes back:

- students of bond dimension 10 on rule 30 with each regularisation of Sec. 4.3.2, recorded at every epoch and followed
  for a time after zero test error;
- small networks on modular addition (:mod:`grokphase.experiments._modular_addition`), also with a guard to which every
  rise of the effective dimension beyond its scatter is one (tolerance 0; by default it must be 5 % as well).

Measured, of each run after *its own* first zero test error and 50 records for the transition to pass:

- *test error*: its mean over a window, the same for all runs; the question is decided by this number;
- *back*: whether the test error is at least 1 % throughout eleven records in a row in that window;
- *dimension*: mean effective dimension over the window;
- *spikes*: those of :func:`grokphase.spikes` from zero test error to the end of the window, and how many of them
  complicated the representation; *rollbacks*: returns from the first step to the end of the window.

Comparison.  Differences (with − without) of the pairs in which both runs reached zero test error in time and were
followed to the end of the window; others are censored, and counted.  Standard errors are over pairs.  The verdict is
that of the sign-flip test: if the guard did nothing, signs of differences would be those of fair coins.  *Helps* or
*harms* is said where p < 0.01; with five comparisons, one in twenty reports says so of a guard that does nothing.
Fewer than eight differing pairs can never decide.

Zero test error is that of the students' protocol, which runs that are wrong everywhere reach as well.  Their errors
count as they are, without and with the guard.

What it cannot say.  Going back costs training time: a later zero test time is a price that the test error after it does
not show (times are compared as well, and for networks also the error at the end of equal training).  How a guard does
that goes back from as many spikes chosen at random is not asked.

References: Žunkovič & Ilievski 2024, Sec. 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import minimum_filter1d

from grokphase import spikes
from grokphase._checks import FloatArray, choice, integer
from grokphase.experiments._ensembles import REGULARISATIONS, RULE
from grokphase.experiments._framework import SCALES, Comparison, Ensemble, Experiment, Progress, Scale, variable
from grokphase.experiments._modular_addition import EVERY, Setting, train
from grokphase.experiments._style import colour, legend_below, panel_title, panels, style
from grokphase.training import Scenario
from grokphase.transition.spike_rule import Action, SpikeRule

__all__ = ["EXPERIMENT", "Difference", "Followed", "Run", "difference", "measured"]

BOND = 10
WRONG = 0.01  # test error from which on a student is wrong
LASTING = 11  # records
SETTLED = 50  # records after zero test error that are not looked at
MODULAR_END = 150  # where the window of networks ends, in records
LEVEL = 0.01  # of the sign-flip test
FLIPS = 9_999
ALL_FLIPS = 12  # differences up to which all signs are tried

MODULAR = {"MLP": SpikeRule(), "MLP, tolerance 0": SpikeRule(tolerance=0.0)}
TITLES = {
    "none": "student, no penalty",
    "L2": "student, L2",
    "L1": "student, L1",
    "MLP": "modular addition",
    "MLP, tolerance 0": "modular addition, tolerance 0",
}

_MEMBERS: dict[Scale, int] = {"quick": 32, "paper": 250}
_NETWORKS: dict[Scale, int] = {"quick": 10, "paper": 50}
_DURATION: dict[Scale, float | None] = {"quick": 1.0, "paper": None}  # None: as published
_OBSERVE: dict[Scale, float] = {"quick": 1.5, "paper": 2.0}


def ensembles(scale: Scale, seed: int, *, members: int = 0, networks: int = 0) -> dict[str, Ensemble]:
    """Each regularisation without and with the guard; ``members`` runs each, 0: by scale."""
    size = integer("members", members) or _MEMBERS[choice("scale", scale, SCALES)]
    return {
        _name(name, guard): Ensemble(
            Scenario(
                RULE,
                BOND,
                l1=l1,
                l2=l2,
                members=size,
                seed=seed,
                duration=_DURATION[scale],
                observe=_OBSERVE[scale],
                record_every=1,  # a spike lasts for two or three epochs
                guard=guard,
            )
        )
        for (name, (l1, l2)), guard in product(REGULARISATIONS.items(), (False, True))
    }


def _name(regularisation: str, guard: bool) -> str:
    return f"{regularisation}, {'with' if guard else 'without'} guard"


# --- one run ---


@dataclass(frozen=True)
class Followed:
    """What a run showed, record by record, for as long as it was followed."""

    zero: float
    """Time of zero test error; infinite: not in time."""

    after: int
    """First record later than that."""

    loss: FloatArray
    error: FloatArray
    dimension: FloatArray
    back: NDArray[np.bool_]
    """Whether the guard went back after a record."""


@dataclass(frozen=True)
class Run:
    """What is measured of a run; NaN but for ``zero``: not reached, or not followed to the end of the window."""

    zero: float
    error: float = np.nan
    back: float = np.nan
    dimension: float = np.nan
    spikes: float = np.nan
    complicated: float = np.nan
    rollbacks: float = np.nan


MEANINGS = {
    "zero": "time of zero test error; infinite: not in time",
    "error": "mean test error after the transition",
    "back": "1: the test error came back after it; 0: not",
    "dimension": "mean effective dimension after it",
    "spikes": "loss spikes after zero test error",
    "complicated": "those that complicated the representation",
    "rollbacks": "how often the guard went back",
}


def measured(run: Followed, end: int) -> Run:
    """A run in numbers; ``end`` is the end of the window, in records after zero test error."""
    stop = run.after + end
    if not np.isfinite(run.zero) or stop > run.error.size:
        return Run(run.zero)
    whole, inside = slice(run.after, stop), slice(run.after + SETTLED, stop)
    found = spikes(run.loss[whole], effective_dimension=run.dimension[whole])
    half = LASTING // 2
    return Run(
        zero=run.zero,
        error=float(run.error[inside].mean()),
        back=float((minimum_filter1d(run.error[inside], LASTING)[half:-half] >= WRONG).any()),
        dimension=float(run.dimension[inside].mean()),
        spikes=len(found),
        complicated=sum(spike.effect == "complicated" for spike in found),
        rollbacks=float(run.back[:stop].sum()),
    )


def _students(run: xr.Dataset) -> list[Followed]:
    """All members of an ensemble."""
    time, zero, last = (run[name].to_numpy() for name in ("time", "zero_test_time", "last_time"))
    curves = [run[name].to_numpy().astype(float) for name in ("train_loss", "test_error", "effective_dimension")]
    back = (
        run["spike_action"].to_numpy() == Action.ROLL_BACK if "spike_action" in run else np.zeros(curves[0].shape, bool)
    )
    half = (time[1] - time[0]) / 2  # times are sums of rounded numbers
    after, counted = np.searchsorted(time, zero + half), np.searchsorted(time, last + half)
    return [
        Followed(float(zero[row]), int(after[row]), *(part[row, : counted[row]] for part in (*curves, back)))
        for row in range(zero.size)
    ]


def _networks(loss: FloatArray, error: FloatArray, dimension: FloatArray, action: NDArray[np.int_]) -> list[Followed]:
    """Networks that were trained by one rule, (network, record) each."""
    found = []
    for row, zero in enumerate(error == 0):
        after = int(zero.argmax()) + 1
        time = float(after * EVERY) if zero.any() else np.inf
        found.append(Followed(time, after, loss[row], error[row], dimension[row], action[row] == Action.ROLL_BACK))
    return found


def _mean_curve(runs: Sequence[Followed], end: int) -> FloatArray:
    """Mean test error against records after zero test error, of the runs that :func:`measured` has numbers for."""
    curves = [run.error[run.after : run.after + end] for run in runs if np.isfinite(run.zero)]
    whole = [curve for curve in curves if curve.size == end]
    return np.mean(whole, axis=0) if whole else np.full(end, np.nan)


# --- comparison of pairs ---


@dataclass(frozen=True)
class Difference:
    """Mean of differences, its standard error, how many there are and are not zero, and the sign-flip test."""

    mean: float
    stderr: float
    pairs: int
    differing: int
    p: float


def difference(without: ArrayLike, guarded: ArrayLike, rng: np.random.Generator) -> Difference:
    """Paired comparison of two arrays (run,), of the pairs of finite numbers.

    >>> difference([1.0, 2.0, 3.0, np.nan], [1.0, 2.5, 3.5, 7.0], np.random.default_rng(0))
    Difference(mean=0.3333333333333333, stderr=0.16666666666666669, pairs=3, differing=2, p=0.5)
    """
    first, second = np.asarray(without, float), np.asarray(guarded, float)
    known = np.isfinite(first) & np.isfinite(second)
    changes = second[known] - first[known]
    moved = changes[changes != 0]
    if not moved.size:
        return Difference(0.0, 0.0, changes.size, 0, 1.0) if changes.size else Difference(np.nan, np.nan, 0, 0, 1.0)
    if moved.size <= ALL_FLIPS:
        signs = np.array(list(product((-1, 1), repeat=moved.size)))
    else:  # the signs as they are, among random ones: p is valid for any number of flips
        signs = np.concatenate([np.ones((1, moved.size)), rng.choice((-1, 1), size=(FLIPS, moved.size))])
    sums = np.abs(signs @ moved)
    p = float(np.mean(sums >= abs(moved.sum()) * (1 - 1e-9)))
    stderr = changes.std(ddof=1) / changes.size**0.5 if changes.size > 1 else np.nan
    return Difference(float(changes.mean()), float(stderr), changes.size, moved.size, p)


# --- the experiment ---


def compute(
    scale: Scale,
    rng: np.random.Generator,
    progress: Progress,
    runs: Mapping[str, xr.Dataset],
    *,
    members: int = 0,
    networks: int = 0,
) -> xr.Dataset:
    """Every run in numbers, mean curves after the transition, and paired differences."""
    number = integer("networks", networks) or _NETWORKS[choice("scale", scale, SCALES)]
    followed: dict[str, list[list[Followed]]] = {}
    ends, steps = {}, {}
    for name in REGULARISATIONS:
        both = [runs[_name(name, guard)] for guard in (False, True)]
        followed[name] = [_students(run) for run in both]
        steps[name] = float(both[0]["time"][1] - both[0]["time"][0])
        ends[name] = round(_OBSERVE[scale] / steps[name]) - 1  # times are sums of rounded numbers: not the last
    shown = train(Setting(), [None, *MODULAR.values()], rng, number, progress)
    for place, name in enumerate(MODULAR, start=1):
        followed[name] = [_networks(*(part[rule] for part in shown)) for rule in (0, place)]
        ends[name], steps[name] = MODULAR_END, float(EVERY)

    cases = list(followed)
    table = np.full((len(MEANINGS), len(cases), 2, max(len(part[0]) for part in followed.values())), np.nan)
    curve = np.full((len(cases), 2, max(ends.values())), np.nan)
    for case, name in enumerate(cases):
        for guard, part in enumerate(followed[name]):
            table[:, case, guard, : len(part)] = np.transpose([astuple(measured(run, ends[name])) for run in part])
            curve[case, guard, : ends[name]] = _mean_curve(part, ends[name])
    dims = ("case", "guard", "run")
    found = {name: variable(dims, values, MEANINGS[name]) for name, values in zip(MEANINGS, table, strict=True)}
    differences = [[difference(row[0], row[1], rng) for row in values] for values in table]
    for field in fields(Difference):
        values = np.array([[getattr(each, field.name) for each in row] for row in differences], float)
        found[f"difference_{field.name}"] = variable(("measure", "case"), values, f"with − without: {field.name}")
    found["runs"] = variable("case", [len(part[0]) for part in followed.values()], "runs without, and with, the guard")
    found["curve"] = variable(("case", "guard", "lag"), curve, "mean test error after zero test error", "E_test")
    found["step"] = variable("case", list(steps.values()), "time, or steps, from record to record")
    found["window"] = variable("case", list(ends.values()), "end of the window, in records after zero test error")
    end = shown.test_error[..., -MODULAR_END:].mean(axis=-1)
    found["modular_end"] = variable(("rule", "network"), end, "mean test error of networks at the end of training")
    return xr.Dataset(
        found,
        {"case": cases, "guard": ["without", "with"], "measure": list(MEANINGS), "rule": ["without", *MODULAR]},
    )


def draw(data: xr.Dataset) -> Figure:
    """Mean test error after the transition, without and with the guard; and all pairs of runs."""
    with style():
        figure, axes = panels(3, 2)
        for index, name in enumerate(TITLES):
            axis, part = axes[index], data.sel(case=name)
            times = float(part["step"]) * np.arange(1, part.sizes["lag"] + 1)
            for guard, label in enumerate(("without guard", "with guard")):
                values = part["curve"].to_numpy()[guard]
                axis.plot(times, values, color=colour(guard), lw=(1.6, 0.8)[guard], label=label)
            axis.axvline(SETTLED * float(part["step"]), color="#999999", lw=0.6, ls=":")
            axis.set_yscale("symlog", linthresh=1e-3, linscale=0.5)
            axis.set(ylim=(0, 1), xlabel="steps after zero error" if name in MODULAR else r"$t - t_\varepsilon$")
            panel_title(axis, index, TITLES[name])
        for axis in axes[::3]:
            axis.set_ylabel("mean test error")
        _draw_pairs(axes[5], data)
        legend_below(figure, axes[0], 2)
    return figure


def _draw_pairs(axis: Axes, data: xr.Dataset) -> None:
    for index, name in enumerate(TITLES):
        error = data["error"].sel(case=name).to_numpy()
        axis.plot(error[0], error[1], "os^xD"[index], ms=3, mew=0.6, mfc="none", color=colour(index + 2), label=name)
    axis.axline((1, 1), slope=1, color="#999999", lw=0.6)
    for scale in (axis.set_xscale, axis.set_yscale):
        scale("symlog", linthresh=1e-4, linscale=0.5)
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="error without guard", ylabel="error with guard")
    axis.legend(fontsize=5, loc="upper left", handletextpad=0.1, borderpad=0.1)
    panel_title(axis, 5, "pairs of runs")


def _difference(data: xr.Dataset, measure: str, case: str) -> Difference:
    values = (data[f"difference_{field.name}"].sel(measure=measure, case=case).item() for field in fields(Difference))
    mean, stderr, pairs, differing, p = values
    return Difference(mean, stderr, int(pairs), int(differing), p)


def _verdict(data: xr.Dataset, case: str) -> str:
    """In plain words."""
    found = _difference(data, "error", case)
    if not found.pairs:
        return "nothing to compare"
    if not found.differing:
        went = float(data["rollbacks"].sel(case=case, guard="with").sum())
        return "no difference at all" + ("" if went else ": it never went back")
    if found.p < LEVEL:
        return "harms" if found.mean > 0 else "helps"
    return "no difference within the error"


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The proposal, case by case."""
    rows = []
    for name, title in TITLES.items():
        found, verdict = _difference(data, "error", name), _verdict(data, name)
        without, guarded = _pair_means(data, "error", name)
        rows.append(
            Comparison(
                f"test error after the transition, {title}",
                "proposed, not tried",
                f"{guarded:.2g} with, {without:.2g} without guard: {found.mean:+.2g}",
                f"s.e. {found.stderr:.2g}, p = {found.p:.2g}, {found.pairs} pairs, {found.differing} of them differ",
                verdict != "harms",
                f"{verdict}; agreement means that the guard is not seen to harm",
            )
        )
    return rows


def _pair_means(data: xr.Dataset, measure: str, case: str) -> tuple[float, float]:
    """Means without and with the guard over the pairs that are compared; NaN if there are none."""
    values = data[measure].sel(case=case).to_numpy()
    whole = values[:, np.isfinite(values).all(axis=0)]
    first, second = whole.mean(axis=1) if whole.size else (np.nan, np.nan)
    return float(first), float(second)


def findings(data: xr.Dataset) -> Sequence[str]:
    """What the numbers say, in sentences."""
    return [_sentence(data, name) for name in TITLES] + [_on_networks(data)]


def _sentence(data: xr.Dataset, case: str) -> str:
    found = _difference(data, "error", case)
    runs = int(data["runs"].sel(case=case))
    reached = np.isfinite(data["zero"].sel(case=case).to_numpy()).sum(axis=1)
    title = TITLES[case]
    text = (
        f"{title[0].upper()}{title[1:]}: {_verdict(data, case)}. Of {runs} runs, {reached[0]} reach zero test error "
        f"in time without and {reached[1]} with the guard; {found.pairs} pairs are followed far enough on both sides"
    )
    if not found.pairs:
        return text + "."
    text += f", the guard went back {data['rollbacks'].sel(case=case, guard='with').sum().item():.0f} times in them."
    if not found.differing:
        return text
    without, guarded = data["error"].sel(case=case).to_numpy()
    parts = [
        f"mean test error {_change(data, 'error', case)}, larger in {np.sum(guarded > without)} and smaller in "
        f"{np.sum(guarded < without)} of the pairs (sign-flip p = {found.p:.2g})"
    ]
    back = [f"{100 * share:.0f} %" for share in _pair_means(data, "back", case)]
    parts.append(f"the error comes back in {back[1]} instead of {back[0]} of the runs")
    parts += [
        f"{words} {_change(data, measure, case)}"
        for measure, words in (("spikes", "spikes a run"), ("dimension", "D_eff"), ("zero", "zero test time"))
    ]
    return f"{text} With the guard, {'; '.join(parts)}."


def _change(data: xr.Dataset, measure: str, case: str) -> str:
    found = _difference(data, measure, case)
    without, guarded = _pair_means(data, measure, case)
    return f"{guarded:.3g} instead of {without:.3g} ({found.mean:+.2g} ± {found.stderr:.2g})"


def _on_networks(data: xr.Dataset) -> str:
    end = data["modular_end"].to_numpy()
    errors = end.std(axis=1, ddof=1) / end.shape[1] ** 0.5
    words = [
        f"{mean:.2g} ± {error:.2g} {text}"
        for mean, error, text in zip(
            end.mean(axis=1), errors, ("without guard", "with it", "with tolerance 0"), strict=True
        )
    ]
    return (
        f"At the end of equal training, all {end.shape[1]} networks counted, the test error on modular addition is "
        f"{', '.join(words)}: returns cost training time, which matters where zero test error has not been reached."
    )


EXPERIMENT = Experiment(
    name="spikeguard",
    title="Going back from loss spikes that complicate",
    summary=(
        "The paper proposes to undo a loss spike if the effective dimension rose over it. Every run is trained without "
        "and with such a guard, and both are compared in pairs after they have reached zero test error (behind the "
        "dotted line), for students with each regularisation and for small networks on modular addition."
    ),
    compute=compute,
    draw=draw,
    compare=compare,
    options={"members": 0, "networks": 0},
    ensembles=ensembles,
    findings=findings,
)
