"""Runs whose exponent and order are known: a power law with everything that real records add to it."""

import numpy as np

CHANCE = 0.5
FALSE_ALARM = 1e-4


def power_law_runs(
    rng,
    exponent,
    *,
    members=40,
    reach=60.0,
    jump=0.0,
    scatter=0.3,
    noise=0.0,
    oscillation=0.0,
    period=1.1,
    samples=0,
    before=200,
):
    """Times 0, 1, 2, ... and test errors (member, time) of E = J + 0.3 A (s/reach)^ν before each member's own zero.

    The zero lies anywhere (not at a record), the amplitude A is log-normal with width ``scatter``, ``noise`` is
    log-normal from record to record, ``oscillation`` the amplitude of a factor 1 + a cos(2π ln s/period + phase) with a
    phase common to all members.  At large errors the law bends towards chance level, 1/√(1/E² + 1/0.5²).  With
    ``samples``, the error is the fraction wrong of so many fresh inputs at every record.
    """
    time = np.arange(3.0 * before + 60)
    zero = rng.uniform(1.2 * before, 3.0 * before, members)
    amplitude = 0.3 * np.exp(rng.normal(0, scatter, members))
    distance = np.maximum(zero[:, None] - time, 0.0) / reach
    going = distance > 0
    safe = np.where(going, distance, 1.0)
    wave = 1 + oscillation * np.cos(2 * np.pi * np.log(safe) / period + rng.uniform(0, 2 * np.pi))
    law = jump + amplitude[:, None] * safe**exponent * wave
    error = np.where(going, 1 / np.sqrt(1 / law**2 + 1 / CHANCE**2), 0.0)
    error *= np.exp(rng.normal(0, noise, error.shape))
    error = np.minimum(error, 1.0)
    if samples:
        error = rng.binomial(samples, error) / samples
    return time, error


def as_runs(time, error):
    """With a training error that is zero earlier."""
    return {"time": time, "train_error": np.clip(error - 0.2, 0.0, None), "test_error": error}


CONTINUOUS = {
    **{f"clean, {exponent}": (exponent, {}) for exponent in (0.5, 1.0, 2.5)},
    **{f"log-periodic, {exponent}": (exponent, {"oscillation": 0.1}) for exponent in (0.5, 1.0, 2.5)},
    **{f"noise, {exponent}": (exponent, {"noise": 0.2}) for exponent in (0.5, 1.0, 2.5)},
    **{f"coarse, {exponent}": (exponent, {"reach": 15}) for exponent in (0.5, 1.0, 2.5)},
    "log-periodic, noise, 1.0": (1.0, {"oscillation": 0.1, "noise": 0.2}),
    "coarse, noise, 1.0": (1.0, {"reach": 15, "noise": 0.1}),
    "counted on 1000 inputs, 0.5": (0.5, {"samples": 1000}),
    "counted on 10000 inputs, 1.0": (1.0, {"samples": 10_000}),
    "12 runs, noise, 1.0": (1.0, {"members": 12, "noise": 0.1}),
    "20 runs, noise, 0.5": (0.5, {"members": 20, "noise": 0.1}),
}
"""Exponent and options of ensembles whose transition is continuous."""

JUMPS = {
    "jump, then a slope": (1.0, {"jump": 0.2, "noise": 0.1}),
    "small jump, then a root": (0.5, {"jump": 0.05}),
    "jump, then a root": (0.5, {"jump": 0.2, "noise": 0.2}),
    "a step": (1.0, {"jump": 0.3, "reach": 1e9}),
    "jump counted on 1000 inputs": (1.0, {"jump": 0.1, "samples": 1000}),
    "coarse jump, then a slope": (1.0, {"jump": 0.2, "reach": 15, "noise": 0.1}),
}
"""Exponent beside the jump and options of ensembles that jump from most of their error at the nearest records."""

SMALL_JUMPS = {
    "jump of 0.02, then a root": (0.5, {"jump": 0.02, "noise": 0.1}),
    "jump of 0.01, then a root": (0.5, {"jump": 0.01, "noise": 0.1}),
    "jump of 0.003, then a slope": (1.0, {"jump": 0.003, "noise": 0.1}),
    "jump of 0.001, then a slope": (1.0, {"jump": 0.001, "noise": 0.1}),
}
"""Jumps about as large as what is left of the continuous part within one sampling step, 0.027 and 0.0025."""
