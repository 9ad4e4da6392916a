"""A measured transition in words and as plain data, as the command line shows them.

``SCHEMA`` names the version of the data; fields are only ever added.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from grokphase.transition.exponent import ExponentFit, ShortScalingWindow
from grokphase.transition.survival import MeanTime, Survival, median_delay
from grokphase.transition.wording import sentences
from grokphase.transition.zero_times import CensoredTimes, zero_times

if TYPE_CHECKING:
    from grokphase.transition.measuring import Transition

__all__ = ["SCHEMA", "describe", "to_dict"]

SCHEMA = 1
"""Version of the dictionary."""

_CONFIDENCE = 0.95


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
        "confidence": _CONFIDENCE,
        "which": transition.which,
        "member": [str(label) for label in transition.runs["member"].to_numpy()],
        "zero_train_time": _times(transition.zero_train_time),
        "zero_test_time": _times(transition.zero_test_time),
        "grokking_time": _times(transition.grokking_time),
        "records": _records(transition),
        "share": _shares(transition),
        "median": _medians(transition),
        "returns": _returns(transition),
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
    return " ".join(sentences(to_dict(transition)))


def _records(transition: "Transition") -> dict[str, Any]:
    """How often and how long was recorded, and the smallest errors."""
    runs = transition.runs
    time = runs["time"].to_numpy().astype(np.float64)
    errors = {name: runs[f"{name}_error"].to_numpy() for name in ("train", "test")}
    used = time[~np.isnan(errors["test"]).all(axis=0)]
    smallest = {
        f"smallest_{name}_error": float(np.nanmin(error)) if not np.isnan(error).all() else None
        for name, error in errors.items()
    }
    recorded = time[~np.isnan([*errors.values()]).all(axis=(0, 1))]
    last = float(recorded[-1]) if recorded.size else None
    return {"every": float(np.median(np.diff(used))) if used.size > 1 else None, "last": last, **smallest}


def _medians(transition: "Transition") -> dict[str, Any]:
    """Median of each time over all runs, with its interval."""
    medians = {name: _median(getattr(transition, name), transition) for name in ("zero_train_time", "zero_test_time")}
    return {**medians, "grokking_time": median_delay(transition.grokking_time, _CONFIDENCE)._asdict()}


def _median(times: CensoredTimes, transition: "Transition") -> dict[str, float | None]:
    """Of a time, as of a delay since the first record."""
    start = float(transition.runs["time"][0])
    since = CensoredTimes(times.value - start, times.low - start, times.high - start, times.reached)
    found = median_delay(since, _CONFIDENCE)._asdict()
    return {name: None if value is None else value + start for name, value in found.items()}


def _shares(transition: "Transition") -> dict[str, Any]:
    """Share of runs that reach each zero error within their record, with the exact binomial interval."""
    found = {}
    for name in ("zero_train_time", "zero_test_time"):
        reached = getattr(transition, name).reached
        interval = stats.binomtest(int(reached.sum()), reached.size).proportion_ci(_CONFIDENCE, method="exact")
        found[name] = {"value": float(reached.mean()), "low": float(interval.low), "high": float(interval.high)}
    return found


def _returns(transition: "Transition") -> dict[str, Any]:
    """Runs whose test error leaves zero again, and the median of the time from which it is zero for good."""
    time = transition.runs["time"].to_numpy().astype(np.float64)
    for_good = zero_times(time, transition.runs["test_error"].to_numpy(), transition.tolerance, "final")
    first = transition.zero_test_time
    back = first.reached & (~for_good.reached | (for_good.value > first.value))
    return {"runs": int(back.sum()), "median": _median(for_good, transition)["value"]}


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
        "curve": {name: _list(column) for name, column in fit.curve._asdict().items()},
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
