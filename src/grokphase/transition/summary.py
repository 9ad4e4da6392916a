"""A measured transition in words and as plain data, as the command line shows them.

``SCHEMA`` names the version of the data; fields are only ever added.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from grokphase.transition.exponent import ExponentFit, ShortScalingWindow
from grokphase.transition.survival import MeanTime, Survival
from grokphase.transition.zero_times import CensoredTimes

if TYPE_CHECKING:
    from grokphase.transition.measuring import Transition

__all__ = ["SCHEMA", "describe", "to_dict"]

SCHEMA = 1
"""Version of the dictionary."""


def to_dict(transition: "Transition") -> dict[str, Any]:
    """Everything that was measured as plain data; see :meth:`Transition.to_dict`."""
    fit, refusal = _exponent(transition)
    order = transition.order()
    return {
        "schema": SCHEMA,
        "source": str(transition.runs.attrs.get("source", "dataset")),
        "time": str(transition.runs["time"].attrs.get("long_name", "time")),
        "runs": len(transition.zero_test_time),
        "tolerance": transition.tolerance,
        "which": transition.which,
        "member": [str(label) for label in transition.runs["member"].to_numpy()],
        "zero_train_time": _times(transition.zero_train_time),
        "zero_test_time": _times(transition.zero_test_time),
        "grokking_time": _times(transition.grokking_time),
        "survival": _survival(transition),
        "mean_grokking_time": _means(transition),
        "order": {
            "kind": order.kind,
            "jump": _finite(order.jump._asdict()),
            "nearest_error": order.nearest_error,
            "confidence": order.confidence,
            "evidence": order.evidence,
        },
        "exponent": None if fit is None else {**_fit(fit), "refused": refusal},
        "exponent_refused": refusal,
        "modes": _modes(transition),
    }


def describe(transition: "Transition") -> str:
    """One paragraph; see :meth:`Transition.describe`."""
    runs = len(transition.zero_test_time)
    unit = str(transition.runs["time"].attrs.get("long_name", "time"))
    unit = "" if unit == "time" else f" ({unit})"
    train, test = transition.zero_train_time, transition.zero_test_time
    threshold = "zero" if transition.tolerance == 0 else f"at most {transition.tolerance:g}"
    sentences = [
        f"{_share(train, runs)} {'reaches' if runs == 1 else 'reach'} a training error of {threshold}"
        f"{_typically(train)}, {_share(test, runs)} a test error of {threshold}{_typically(test)}{unit}."
    ]
    sentences += _delay_sentences(transition)
    order = transition.order()
    jump = f"{order.jump.value:.2g} [{order.jump.low:.2g}, {order.jump.high:.2g}]"
    if order.kind == "first":
        sentences.append(f"The transition is of first order: the test error jumps from {jump} to zero.")
    elif order.kind == "continuous":
        sentences.append(f"The transition is continuous: a jump of the test error is at most {order.jump.high:.2g}.")
    else:
        sentences.append(f"Whether the test error jumps to zero is undecided: {order.evidence}.")
    fit, refusal = _exponent(transition)
    if fit is not None and refusal is None:
        sentences.append(
            f"It vanishes with the exponent {_with_interval(fit.value, fit.low, fit.high)} ({fit.confidence:.0%}, "
            f"{fit.decades:.1f} decades from {fit.window[0]:.3g} to {fit.window[1]:.3g} before the transition)."
        )
    elif order.kind == "continuous":
        sentences.append(f"No exponent is given: {refusal}.")
    modes = _modes(transition)
    if modes is not None and modes["runs"] >= _FEWEST_FOR_MODES:
        where = " and ".join(f"{place:.3g}" for place in modes["locations"])
        several = "more than one mode, near" if modes["bimodal"] else "no more than one mode that could be told, near"
        sentences.append(f"The grokking time has {several} {where} (dip test, p = {modes['p_value']:.2g}).")
    return " ".join(sentences)


_FEWEST_FOR_MODES = 20  # a sentence on modes is of no use for fewer


def _delay_sentences(transition: "Transition") -> list[str]:
    if not (transition.zero_train_time.reached | transition.zero_test_time.reached).any():
        return ["No run reached either, so that there is no grokking time."]
    curve = transition.survival()
    means = _means(transition)
    mean = means["all"]
    restricted = means["restricted_to"]
    up_to = "" if means["complete"] else f" (cut at {restricted:.4g}, the longest record)"
    sentences = [f"The test error follows the training error by {_pm(mean)} on average{up_to}."]
    if curve.censored:
        left = f"{curve.censored} of {curve.censored + curve.events} runs had not grokked when their record ended"
        reached = means["reached"]
        dropped = f"; leaving them out would have said {_pm(reached)}" if reached else ""
        median = f", the median delay is {curve.median:.4g}" if np.isfinite(curve.median) else ""
        sentences.append(f"{left}{median}{dropped}.")
    return sentences


def _means(transition: "Transition") -> dict[str, Any]:
    """Means by each way to choose runs; the one over all is restricted to the longest record if need be."""
    try:
        horizon = transition.survival().horizon
    except ValueError:
        return {"all": None, "reached": None, "published": None, "restricted_to": None, "complete": False}
    out: dict[str, Any] = {}
    try:
        out["all"], out["complete"] = _mean(transition.mean_grokking_time()), True
    except ValueError:
        out["complete"] = False
        out["all"] = _mean(transition.mean_grokking_time(restricted_to=horizon)) if horizon > 0 else None
    for runs in ("reached", "published"):
        try:
            out[runs] = _mean(transition.mean_grokking_time(runs=runs))
        except ValueError:
            out[runs] = None
    return {**out, "restricted_to": horizon}


def _mean(value: MeanTime) -> dict[str, Any]:
    return _finite(value._asdict())


def _exponent(transition: "Transition") -> tuple[ExponentFit | None, str | None]:
    try:
        return transition.exponent(), None
    except ShortScalingWindow as refusal:
        return refusal.fit, str(refusal)


def _fit(fit: ExponentFit) -> dict[str, Any]:
    names = ("value", "low", "high", "confidence", "goodness", "misfit", "systematic", "correction", "shift", "runs")
    return {
        **_finite({name: getattr(fit, name) for name in names}),
        "window": list(fit.window),
        "decades": fit.decades,
        "plateau": {name: _list(column) for name, column in fit.plateau._asdict().items()},
    }


def _modes(transition: "Transition") -> dict[str, Any] | None:
    try:
        found = transition.modes()
    except ValueError:
        return None
    known = transition.grokking_time.reached & np.isfinite(transition.grokking_time.resolution)
    return {
        "runs": int(known.sum()),
        "bimodal": bool(found.bimodal),
        "p_value": float(found.p_value),
        "test": found.test,
        "locations": _list(found.locations),
    }


def _survival(transition: "Transition") -> dict[str, Any] | None:
    try:
        curve: Survival = transition.survival()
    except ValueError:
        return None
    arrays = {name: _list(getattr(curve, name)) for name in ("time", "probability", "low", "high")}
    counts = {name: getattr(curve, name) for name in ("events", "censored", "unknown", "confidence")}
    return {**arrays, **counts, **_finite({"median": curve.median, "horizon": curve.horizon})}


def _times(times: CensoredTimes) -> dict[str, Any]:
    return {
        "reached": times.reached.tolist(),
        "value": _list(times.value),
        "low": _list(times.low),
        "high": _list(times.high),
    }


def _list(values: ArrayLike) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in np.asarray(values, dtype=float)]


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Infinity has no place in JSON."""
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _share(times: CensoredTimes, runs: int) -> str:
    reached = int(times.reached.sum())
    if runs == 1:
        return "The run" if reached else "The run does not"
    return f"All {runs} runs" if reached == runs else f"{reached} of {runs} runs"


def _typically(times: CensoredTimes) -> str:
    if not times.reached.any():
        return ""
    values = times.value[times.reached]
    return f" at {values[0]:.4g}" if values.size == 1 else f" (median {np.median(values):.4g})"


def _pm(mean: dict[str, Any] | None) -> str:
    if mean is None:
        return "an unknown time"
    if mean["stderr"] is None:
        return f"{mean['mean']:.4g}"
    return f"{mean['mean']:.4g} ± {mean['stderr']:.2g}"


def _with_interval(value: float, low: float, high: float) -> str:
    digits = max(0, int(np.ceil(-np.log10(max(high - low, 1e-9)))) + 1)
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
