r"""Figure 21: spikes of the training loss change the structure of the contexts, towards simpler or more complex.

Shown are two runs of students of bond 3, chosen by a rule among all runs of all penalties.  Medians over a time of 0.1
before and after a spike tell what it changes for longer than it lasts.  Of the spikes after zero test error whose
effect is clear and around which the student is right (medians of the test error below 1 %), the one with the largest
lasting rise of ln D_eff is shown, as in the published figure, and the one with the largest fall.  The four times are
0.05, the zero test time, and 0.05 before and after the spike.

Counted are all spikes, by penalty: how often they come, and what they do to D_eff beside a control (see
:mod:`grokphase.experiments._structure`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from grokphase._checks import FloatArray
from grokphase.experiments import _structure as structure
from grokphase.experiments._framework import Comparison, Experiment, Progress, Scale, variable
from grokphase.experiments._structure import EFFECTS, PENALTIES, RIGHT, Record, ratio
from grokphase.experiments._style import style
from grokphase.transition.loss_spikes import Spike

__all__ = ["EXPERIMENT"]

STEP = 0.05  # a step of ln D_eff that is large
ASIDE = 0.05  # time between a spike and the contexts shown before and after it
END = 20  # last epochs of a record
READING = 0.007  # relative: the published curve between its points
CLEAR = 2.0  # standard errors by which a claimed order must show
SHOWN = {"complicated": "a spike that complicates", "simplified": "a spike that simplifies"}


def step(spike: Spike) -> float:
    """Change of ln D_eff over a spike."""
    assert spike.dimension_before is not None
    assert spike.dimension_after is not None
    return float(np.log(spike.dimension_after / spike.dimension_before))


def picked(records: Sequence[Record], effect: str) -> tuple[Record, Spike]:
    """The run and its spike to be shown; see the module's header."""
    found = []
    for record in records:
        for spike in record.spikes():
            before, after = np.log(record.around(spike, record.dimension))
            lasting = after - before if effect == "complicated" else before - after
            right = all(error < RIGHT for error in record.around(spike, record.error))
            if spike.effect == effect and right and lasting > 0:
                found.append((lasting, record, spike))
    if not found:
        raise ValueError(f"members must be more: none of {len(records)} runs has {SHOWN[effect]} while it is right")
    _, record, spike = max(found, key=lambda each: each[0])
    return record, spike


def compute(
    scale: Scale, rng: np.random.Generator, progress: Progress, runs: Mapping[str, xr.Dataset], *, members: int = 0
) -> xr.Dataset:
    """What spikes do in all runs, and two runs in full."""
    records = list(structure.records(runs))
    portraits = {}
    for place, effect in enumerate(SHOWN):
        record, spike = picked(records, effect)
        scenario = structure.scenario_of(runs[record.name], structure.ensembles, scale)
        times = (structure.FIRST_MARK, record.zero_test_time, spike.start - ASIDE, spike.end + ASIDE)
        portraits[effect] = structure.portrait(scenario, record, times)
        progress((place + 1) / len(SHOWN))
    groups = {name: [record for record in records if record.name == name] for name in PENALTIES}
    counted = {name: _counted(group) for name, group in (groups | {"all": records}).items()}
    table = xr.concat(counted.values(), dim=xr.DataArray(list(counted), dims="penalties", name="penalties"))
    every = [spike for record in records for spike in record.spikes()]
    table["height"] = variable("counted", [spike.height for spike in every], "heights of all spikes, as factors")
    table["step"] = variable("counted", [step(spike) for spike in every], "their steps of ln D_eff")
    return structure.side_by_side(portraits).merge(table)


def _counted(records: Sequence[Record]) -> xr.Dataset:
    """Numbers of spikes, and ratios with standard errors, of the runs of one penalty."""
    followed = [record.followed for record in records]
    real, control = ([record.spikes(control=which) for record in records] for which in (False, True))
    numbers = [len(found) for found in real]

    def share(spikes: list[list[Spike]], condition: Callable[[Spike], bool]) -> tuple[float, float]:
        return ratio([sum(map(condition, found)) for found in spikes], numbers)

    def mean(spikes: list[list[Spike]]) -> tuple[float, float]:
        return ratio([sum(map(step, found)) for found in spikes], numbers)

    both = {"spikes": real, "control": control}
    shares = [[share(each, partial(_has, effect)) for effect in EFFECTS] for each in both.values()]
    large = [share(each, _is_large) for each in both.values()]
    right_after = np.array([_right_after(records, real, effect) for effect in EFFECTS])  # (effect, counts, run)
    wrong = [np.median(record.error[-END:]) >= RIGHT for record in records]
    rest = [np.median(record.loss[-END:]) for record, lost in zip(records, wrong, strict=True) if not lost]
    rows = {
        "rate": ((), ratio(numbers, followed), "spikes per unit of time"),
        "share": (("which", "effect"), np.array(shares), "part of spikes with an effect"),
        "large_steps": (("which",), np.array(large), "part of spikes with a large step of ln D_eff"),
        "mean_step": (("which",), np.array([mean(each) for each in both.values()]), "mean step of ln D_eff"),
        "right_after": (
            ("effect",),
            [ratio(*counts) for counts in right_after],
            "part of spikes after which the student is right",
        ),
    }
    variables = {
        "counts_after": variable(
            ("effect", "count"), right_after.sum(axis=2), "spikes after which the student is right, and all"
        ),
        "lost": variable((), sum(wrong), "runs whose record ends with a test error"),
        "runs": variable((), len(records), "runs that reached zero test error"),
        "followed": variable((), sum(followed), "time for which they were followed after it"),
        "spikes": variable((), sum(numbers), "spikes in that time"),
        "loss_at_rest": variable((), np.median(rest) if rest else np.nan, "median final loss of runs that are right"),
    }
    for name, (dims, values, text) in rows.items():
        values = np.asarray(values)
        variables[name] = variable(dims, values[..., 0], text)
        variables[f"{name}_stderr"] = variable(dims, values[..., 1], "its standard error")
    return xr.Dataset(variables, {"which": list(both), "effect": list(EFFECTS)})


def _has(effect: str, spike: Spike) -> bool:
    return spike.effect == effect


def _is_large(spike: Spike) -> bool:
    return abs(step(spike)) > STEP


def _right_after(records: Sequence[Record], spikes: list[list[Spike]], effect: str) -> FloatArray:
    """Spikes of a kind with a low test error after them, and all that are followed for long enough; by run."""
    after = [
        np.array([record.around(spike, record.error)[1] for spike in found if spike.effect == effect])
        for record, found in zip(records, spikes, strict=True)
    ]
    return np.array([[np.sum(errors < RIGHT) for errors in after], [np.isfinite(errors).sum() for errors in after]])


def draw(data: xr.Dataset) -> Figure:
    """Two runs: curves with the spikes, and contexts at four times."""
    with style():
        figure = Figure(figsize=(7.0, 6.4), layout="constrained")
        parts = structure.parts_of(figure, len(SHOWN), 1, hspace=0.04)
        for place, (part, (name, text)) in enumerate(zip(parts, SHOWN.items(), strict=True)):
            structure.draw_portrait(part, data.sel(shown=name), text, place)
        structure.legends(figure)
    return figure


def draw_published() -> Figure:
    """The published curves with their markers; the pictures of the contexts are not vector drawings."""
    return structure.draw_published("fig21", log=("train_loss",))


def _plus_minus(data: xr.Dataset, name: str, **where: str) -> str:
    part = data.sel(where)
    return f"{float(part[name]):.0%} ± {float(part[f'{name}_stderr']):.0%}"


def _exceeds(data: xr.Dataset, name: str, larger: Mapping[str, str], smaller: Mapping[str, str]) -> bool:
    """Whether one number is larger than another by more than its standard errors."""
    (high, high_error), (low, low_error) = (
        (float(part[name]), float(part[f"{name}_stderr"])) for part in (data.sel(larger), data.sel(smaller))
    )
    return bool(high - low > CLEAR * np.hypot(high_error, low_error))


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """The published run among ours, and the statements on spikes."""
    return [*_loss_rows(data), *_published_spike_rows(data), *_claim_rows(data)]


def _loss_rows(data: xr.Dataset) -> list[Comparison]:
    published = structure.published_record("fig21").loss[-1]
    rows = []
    for name in ("L2, 0.002", "L2", "L1"):
        penalties = PENALTIES[name]
        exact, ours = structure.loss_at_rest(*penalties), float(data["loss_at_rest"].sel(penalties=name))
        simulated = f", our runs end at {ours:.2g}" if np.isfinite(ours) else ""
        stated = name != "L2, 0.002"
        why = "where all scores are equal and right, the scale rests at the minimum of loss and penalty"
        rows.append(
            Comparison(
                f"final training loss, λ₁ = {penalties[0]:g}, λ₂ = {penalties[1]:g}",
                f"{published:.3g}",
                f"{exact:.3g}{simulated}",
                f"reading {READING:.1%}",
                bool(abs(published - exact) <= READING * published),
                f"{why}; the published run was trained with a stronger penalty than the text says" if stated else why,
                erratum=stated,
            )
        )
    return rows


def _published_spike_rows(data: xr.Dataset) -> list[Comparison]:
    (spike,) = structure.published_record("fig21").spikes()
    rows = []
    for text, theirs, ours in (
        ("height of the spike in the published run", spike.height, data["height"].to_numpy()),
        ("step of ln D_eff over it", step(spike), data["step"].to_numpy()),
    ):
        rows.append(
            Comparison(
                text,
                f"{theirs:.3g}",
                f"{np.mean(ours > theirs):.0%} of ours are larger",
                f"{ours.size} spikes from {ours.min():.2g} to {ours.max():.3g}",
                bool(ours.min() <= theirs <= ours.max()),
                "one spike of one run, measured as ours are: place among ours only",
            )
        )
    return rows


def _claim_rows(data: xr.Dataset) -> list[Comparison]:
    rates = ", ".join(
        f"{float(part['rate']):.2g} ± {float(part['rate_stderr']):.1g} ({name})"
        for name in PENALTIES
        if np.isfinite((part := data.sel(penalties=name))["rate"])
    )
    more = [
        _exceeds(data, "rate", {"penalties": larger}, {"penalties": smaller})
        for larger, smaller in (("L1", "none"), ("L2, 0.002", "none"), ("L2, 0.002", "L2"))
    ]
    everything = data.sel(penalties="all")
    runs, number = int(everything["runs"]), int(everything["spikes"])
    rows = [
        Comparison(
            "spikes per unit of time after zero test error",
            "more with larger λ₁, λ₂",
            rates,
            f"s.e. over {runs} runs; {number} spikes",
            all(more),
            f"agrees if each stronger penalty has more by {CLEAR:g} s.e.; probably because penalties shrink the "
            "tensors, so that equal steps turn the contexts by larger angles",
        ),
        Comparison(
            f"D_eff changes by more than {STEP:.0%} over a spike",
            "whenever there is a spike",
            f"{_plus_minus(everything, 'large_steps', which='spikes')} of spikes",
            f"control: {_plus_minus(everything, 'large_steps', which='control')} at other times",
            _exceeds(everything, "large_steps", {"which": "spikes"}, {"which": "control"}),
            "usually, not always; the control is the same measure half a record away from the spike",
        ),
        Comparison(
            "representation after a spike",
            "less or more complex",
            f"simplified {_plus_minus(everything, 'share', which='spikes', effect='simplified')}, "
            f"complicated {_plus_minus(everything, 'share', which='spikes', effect='complicated')}, "
            f"unclear {_plus_minus(everything, 'share', which='spikes', effect='unclear')}",
            f"mean step of ln D_eff {_mean_step(everything)}",
            bool((everything["share"].sel(which="spikes", effect=["simplified", "complicated"]) > 0).all()),
            "both happen",
        ),
    ]
    counts = {name: everything["counts_after"].sel(effect=name).to_numpy().astype(int) for name in SHOWN}
    if all(number > 0 for _, number in counts.values()):
        told = {name: f"{right} of {number}" for name, (right, number) in counts.items()}
        rows.append(
            Comparison(
                "whether to go back if a spike increases D_eff (Sec. 5)",
                "suggested",
                f"the student is right again after {told['complicated']} spikes that complicate and after "
                f"{told['simplified']} that simplify; {int(everything['lost'])} of {runs} runs end wrong",
                f"median test error below {RIGHT:.0%} over {structure.AROUND:g} after the spike",
                _exceeds(everything, "right_after", {"effect": "simplified"}, {"effect": "complicated"}),
                "agrees if the student is wrong more often after spikes that complicate; spikes that have not ended "
                "with the record are not counted, runs that end wrong are",
            )
        )
    return rows


def _mean_step(data: xr.Dataset) -> str:
    part = data.sel(which="spikes")
    return f"{float(part['mean_step']):+.2f} ± {float(part['mean_step_stderr']):.2f}"


EXPERIMENT = Experiment(
    name="fig21",
    title="Spikes of the loss change the structure of contexts",
    summary=(
        "The contexts of a small student form a few islands once it is right. Now and then the training loss jumps up "
        "for two or three epochs, and afterwards the islands lie differently: sometimes along fewer directions, more "
        "often along more. The test error jumps with the loss and comes back with it. The published run had another "
        "penalty than the text states: its final loss gives it away."
    ),
    compute=compute,
    draw=draw,
    draw_published=draw_published,
    compare=compare,
    options={"members": 0},
    ensembles=structure.ensembles,
)
