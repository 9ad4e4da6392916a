"""What was measured, in sentences for somebody who knows what a training run is and nothing of phase transitions.

The sentences are made from the plain data of :mod:`grokphase.transition.summary` alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from grokphase.transition.exponent import FEWEST_RUNS

__all__ = ["number", "sentences", "with_interval"]

_SMALL = 0.1  # an error that somebody may want to call zero
_FEWEST_FOR_MODES = 20  # a sentence on modes is of no use for fewer
_DIGITS, _MOST_PLACES = 4, 5

# Nouns that a plural is made of, by what may stand in the name of a log's time.
_UNITS = {"step": "step", "epoch": "epoch", "iter": "iteration", "update": "update"}


def sentences(data: Mapping[str, Any]) -> list[str]:
    """Sentences on the data of :func:`grokphase.transition.summary.to_dict`."""
    unit = Unit(data["time"])
    found = [_records(data, unit), _reaching(data, "train", unit), _reaching(data, "test", unit)]
    found += _delay(data, unit)
    found += _returning(data, unit)
    if any(data["zero_test_time"]["reached"]):
        found += _vanishing(data, unit)
    found += _modes(data, unit)
    return found


class Unit:
    """How moments and spans of a log's time are called."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._noun = next((noun for part, noun in _UNITS.items() if part in name.lower()), None)

    def moment(self, value: float) -> str:
        """A point in time: "step 30", "time 2.5"."""
        return f"{self._noun or self._name} {number(value)}"

    def span(self, value: float, margin: str = "") -> str:
        """A duration: "30 steps", "2.5 units of time"."""
        amount = number(value) + margin
        plural = "" if amount == "1" else "s"
        return f"{amount} {self._noun}{plural}" if self._noun else f"{amount} unit{plural} of {self._name}"


def number(value: float) -> str:
    """Whole numbers as they are, others to four digits."""
    if abs(value) < 1e9 and (value == round(value) or abs(value) >= 10**_DIGITS):
        return f"{value:.0f}"
    return f"{value:.{_DIGITS}g}"


def with_interval(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """A number to the digits its interval allows, and the interval; the latter empty if it says nothing."""
    bounds = [end for end in (low, high) if end is not None]
    if low is None or high is None or high <= low or all(end == round(end) for end in (value, *bounds)):
        text, ends = number(value), [number(end) for end in bounds]
    else:
        places = max(0, 1 - _exponent_of(high - low))
        style = f".{places}f" if places <= _MOST_PLACES else ".2g"
        text, *ends = (f"{part:{style}}" for part in (value, low, high))
    if low is None or high is None:
        return text, f"{ends[0]} or more" if low else ""
    return text, f"{ends[0]} to {ends[1]}"


def _exponent_of(value: float) -> int:
    return int(f"{value:e}".split("e")[1])


# --- sentences ---


def _records(data: Mapping[str, Any], unit: Unit) -> str:
    records, runs = data["records"], data["runs"]
    who = "One run" if runs == 1 else f"{runs} runs"
    every = f", recorded every {unit.span(records['every']).removeprefix('1 ')}" if records["every"] is not None else ""
    return f"{who}{every}, up to {unit.moment(records['last'])}."


def _reaching(data: Mapping[str, Any], which: str, unit: Unit) -> str:
    """Which runs reach zero training or test error, and when."""
    times, runs = data[f"zero_{which}_time"], data["runs"]
    name = {"train": "training", "test": "test"}[which]
    goal, tolerance = f"zero {name} error", data["tolerance"]
    meaning = f"every {name} example right" if tolerance == 0 else f"at most {number(tolerance)} of the examples wrong"
    goal = f"{goal} ({meaning}){' for good' if data['which'] == 'final' else ''}"
    reached = sum(times["reached"])
    if reached == 0:
        smallest = data["records"][f"smallest_{which}_error"]
        ends = f": the smallest {name} error is {number(smallest)}" if smallest is not None else ""
        if ends and tolerance == 0 and smallest < _SMALL:
            ends += ", which a tolerance would count as zero"
        return f"{'It does not reach' if runs == 1 else 'None reaches'} {goal}{ends}."
    if runs == 1:
        low, high = times["low"][0], times["high"][0]
        when = f"between {unit.moment(low)} and {unit.moment(high)}" if low is not None else "at its first record"
        return f"It reaches {goal} {when}."
    all_of_them = "Both" if runs == 2 else f"All {runs}"
    who = all_of_them if reached == runs else f"{reached} of {runs}"
    verb = "reaches" if reached == 1 else "reach"
    median = data["median"][f"zero_{which}_time"]["value"]
    if median is None:
        first = min(value for value, there in zip(times["value"], times["reached"], strict=True) if there)
        return f"{who} {verb} {goal}, the first at {unit.moment(first)}."
    return f"{who} {verb} {goal}, half of {'them' if reached == runs else 'all'} by {unit.moment(median)}."


def _delay(data: Mapping[str, Any], unit: Unit) -> Iterator[str]:
    """How long after the training error the test error becomes zero."""
    curve, means, median = data["survival"], data["mean_grokking_time"], data["median"]["grokking_time"]
    if curve is None:
        yield "So there is no grokking time, the delay between the two, to be measured."
        return
    if data["runs"] == 1:
        yield _single_delay(data, unit)
        return
    waiting, known = curve["censored"], curve["events"] + curve["censored"]
    mean = means["all"]
    average = None if mean is None else _pm(mean, unit)
    if curve["events"] == 0:
        yield (
            f"So the delay between the two, the grokking time, exceeds what was recorded: "
            f"{unit.span(curve['horizon'])} in the longest record."
        )
        return
    called = "The delay between the two, the grokking time,"
    if median["value"] is None:
        yield f"{called} exceeds {unit.span(curve['horizon'])} in more than half of the runs."
    elif median["value"] == 0:
        yield f"{called} is zero in at least half of the runs: they generalise no later than they learn."
    else:
        interval = with_interval(median["value"], median["low"], median["high"])[1]
        within = f" ({curve['confidence']:.0%} interval {interval})" if interval else ""
        yield f"{called} is {unit.span(median['value'])} in the median run{within}."
    if average is not None:
        cut = "" if means["complete"] else f", counting at most {unit.span(means['restricted_to'])} for each run"
        yield f"On average it is {average}{cut}."
    if waiting:
        verb = "has" if waiting == 1 else "have"
        dropped = means["reached"]
        would = (
            f"; leaving {'it' if waiting == 1 else 'them'} out would have said {_pm(dropped, unit)}" if dropped else ""
        )
        counts = "counts as later" if waiting == 1 else "count as later"
        yield f"{waiting} of {known} {verb} not got there when the record ends and {counts} than that{would}."
    if curve["unknown"]:
        yield f"{curve['unknown']} of {data['runs']} never reach zero training error, and say nothing of the delay."


def _single_delay(data: Mapping[str, Any], unit: Unit) -> str:
    times = {name: values[0] for name, values in data["grokking_time"].items()}
    called = "the grokking time"
    if times["reached"] and times["value"] > 0:
        width = None if None in (times["low"], times["high"]) else times["high"] - times["low"]
        within = f", known to within {unit.span(width / 2)}" if width else ""
        return f"The delay between the two, {called}, is {unit.span(times['value'])}{within}."
    if times["reached"] or times["high"] is not None:
        return "There is no delay between the two: it generalises no later than it learns."
    return f"So the delay between the two, {called}, is more than {unit.span(max(times['low'] or 0, 0))}."


def _returning(data: Mapping[str, Any], unit: Unit) -> Iterator[str]:
    """Whether test errors come back after the first zero."""
    back = data["returns"]
    if data["which"] == "final" or not back["runs"]:
        return
    who = "Test" if data["runs"] == 1 else f"In {back['runs']} of {sum(data['zero_test_time']['reached'])} runs test"
    gone = ""
    if back["median"] is not None:
        half = " in half of all runs" if data["runs"] > 1 else ""
        gone = f"; they are gone for good by {unit.moment(back['median'])}{half}"
    yield f"{who} errors come back after the first zero{gone}."


def _vanishing(data: Mapping[str, Any], unit: Unit) -> Iterator[str]:
    """How the test error gets to zero: jump, power law, or why that cannot be told."""
    order, fit, refusal = data["order"], data["exponent"], data["exponent_refused"]
    if refusal is not None:  # without what only a program can do about it
        refusal = refusal.split(", or pass min_decades")[0].replace(" decades", " decades (factors of ten)", 1)
    jump = order["jump"]
    if order["kind"] == "first":
        size, interval = with_interval(jump["value"], jump["low"], jump["high"])
        yield (
            f"The test error jumps to zero from {size} ({order['confidence']:.0%} interval {interval}): an abrupt "
            "transition, of first order in the language of physics. A jump has no exponent."
        )
        return
    if order["kind"] == "undecided":
        reason, answered = order["evidence"], fit is not None and refusal is None
        few = fit is not None and fit["runs"] < FEWEST_RUNS
        if refusal is not None and (few or reason in refusal):
            reason, refusal = refusal, None
        yield f"Whether the test error jumps to zero or falls gradually cannot be told: {reason}."
        if refusal is not None:
            yield f"Nor can the power of the remaining time with which it falls, the exponent: {refusal}."
        if answered:
            yield f"If gradually, it falls {_power(fit, unit)}."
        return
    yield f"The test error falls to zero gradually, without a jump (of more than {number(_rounded(jump['high']))})."
    if refusal is not None:
        yield f"The power of the remaining time with which it falls, the exponent, cannot be measured: {refusal}."
        return
    yield f"It falls {_power(fit, unit)}."


def _power(fit: Mapping[str, Any], unit: Unit) -> str:
    """The exponent, its interval and its window."""
    value, interval = with_interval(fit["value"], fit["low"], fit["high"])
    near, far = (unit.span(_rounded(end)) for end in fit["window"])
    return (
        f"as the remaining time to the power {value}, the exponent ({fit['confidence']:.0%} interval "
        f"{interval}), as seen from {far} to {near} before its zero"
    )


def _modes(data: Mapping[str, Any], unit: Unit) -> Iterator[str]:
    modes = data["modes"]
    if modes is None or modes["runs"] < _FEWEST_FOR_MODES or not modes["bimodal"]:
        return
    where = " and ".join(number(_rounded(place)) for place in modes["locations"])
    yield f"The delays fall into more than one group, around {where} (dip test, p = {modes['p_value']:.2g})."


def _pm(mean: Mapping[str, Any], unit: Unit) -> str:
    """A mean with its standard error, to the digits that this allows."""
    stderr = mean["stderr"]
    if not stderr:
        return unit.span(mean["mean"])
    places = max(0, 1 - _exponent_of(stderr))
    value = float(f"{mean['mean']:.{places}f}")
    return unit.span(value, f" ± {stderr:.{places}f}")


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
