r"""Power law with a correction, as records that are aligned at a grid point see it, and its fit.

Object.  For a record at distance d before the first zero record of its run (d is a difference of two recorded
times),

    E(d) = J + A (s/s_far)^ν e^{c s/s_far}   averaged over   s = d + σ − u r,   u uniform in (0, 1),

r the sampling step at the zero: the true zero lies anywhere between the last two records.  σ ≥ 0 is the distance at
which the law itself is still at the level of the smallest error that can be told from zero, A (σ/s_far)^ν =
tolerance + x q: q is the granularity of the recorded errors (one over the number of test inputs), and x, 0 ≤ x ≤
10, is fitted.  With q = 0 and tolerance = 0, σ = 0.  The average over u is done exactly for the power law; c
belongs to the record as a whole.

Where the zeros are not spread between their two records (all lie at the same place, as zeros on a common grid of times
do), u is one number, the phase, and fitted.

The logarithm of the mean error in bins of d is fitted by least squares, every bin (every scale) weighing the same.
Many samples, all replicates of a bootstrap, are fitted at a time (Levenberg-Marquardt with bounds by projection).

Approximate: within a bin, records are replaced by at most ``_NODES`` groups at their mean distance, a relative
error of the law below (0.2/_NODES)² ν²; the mean over members of σ is that of the mean amplitude.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from grokphase._checks import FloatArray

__all__ = ["BINS_PER_DECADE", "SMALLEST_EXPONENT", "BinnedErrors", "Records", "ScalingLaw"]

BINS_PER_DECADE = 6
SMALLEST_EXPONENT = 0.2
"""Beside a jump, smaller exponents are not considered: they would be a jump themselves."""

_NODES = 8
_PLACES = 64  # of a zero between two records
_LATEST_PHASE = 0.99  # at 1 the nearest record has no distance, and its logarithm no derivative
_SMALL_ERRORS, _MOSTLY_DIFFERENT = 200, 0.9  # so many, and this share of different ones, tell counts from real numbers
_LARGEST_EXPONENT = 20.0
_LARGEST_CORRECTION = 20.0
_LARGEST_SHIFT = 10.0  # x: errors below so many grains are mostly not zero by chance
_SMALLEST_SHIFT = 1e-3  # nothing beside a grain; at 0 the distance σ has no derivative
_TINY = 1e-300
_SMALLEST_POWER = 0.05  # smaller exponents do not say where a threshold is reached
_NEGLIGIBLE_COST = 1e-10  # a squared misfit of 1e-10 in the logarithm is beyond any use
_EDGE = 1 - 1e-6  # bins begin just below records, so that a record's bin does not depend on rounding


@dataclass(frozen=True, eq=False)
class BinnedErrors:
    """Mean error of every member in bins of the distance, in units of ``scale``.

    Attributes
    ----------
    errors
        Shape (member, bin).
    distance, resolution, weight
        Nodes, one bin after another, shape (node,), in units of ``far``; weights of a bin add up to 1.
    first
        Number of every bin's first node, shape (bin,).
    near, far, scale
        Ends of the window, and the mean error in the first bin.
    """

    errors: FloatArray
    distance: FloatArray
    resolution: FloatArray
    weight: FloatArray
    first: NDArray[np.intp]
    near: float
    far: float
    scale: float

    @cached_property
    def log_distance(self) -> FloatArray:
        """Logarithm of the mean distance, shape (bin,)."""
        return np.log(self.mean(self.distance))

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean over the nodes of every bin, (..., node) -> (..., bin)."""
        return np.add.reduceat(values * self.weight, self.first, axis=-1)

    @cached_property
    def scatter(self) -> FloatArray:
        """Covariance of the means over members, divided by the means: shape (bin, bin)."""
        return np.cov((self.errors / self.errors.mean(axis=0)).T) / len(self.errors)

    @cached_property
    def log_mean(self) -> FloatArray:
        """Logarithm of the mean over members, without the bias of the logarithm to first order."""
        return np.log(self.errors.mean(axis=0)) + self.scatter.diagonal() / 2

    def bootstrap(self, replicates: int, seed: int) -> FloatArray:
        """Log means of members drawn with replacement, shape (replicates, bin), spread around ``log_mean``."""
        members = len(self.errors)
        shares = np.random.default_rng(seed).multinomial(members, np.full(members, 1 / members), replicates) / members
        # The bias of the logarithm enters twice: once in the sample, once in the replicate.
        return np.log(np.maximum(shares @ self.errors, _TINY)) + self.scatter.diagonal()


class Records:
    """All records before the zero of their run, with their distance to it.

    Parameters
    ----------
    time, error
        Shapes (time,) and (member, time); NaN where there is no record.
    zero, before
        Time of the zero record and of the one before it, shape (member,).
    """

    def __init__(self, time: FloatArray, error: FloatArray, zero: FloatArray, before: FloatArray) -> None:
        step = zero - before
        # A gap in the record right before the zero leaves the zero itself unknown.
        regular = step <= 2 * np.median(step)
        self.step = step[regular]
        rows, columns = np.nonzero((time < zero[regular, None]) & ~np.isnan(error[regular]))
        distance = zero[regular][rows] - time[columns]
        order = np.argsort(distance, kind="stable")
        self.member = rows[order]
        self.distance = distance[order]
        self.error = error[regular][rows, columns][order]
        self.furthest = np.zeros(self.step.size)
        np.maximum.at(self.furthest, rows, distance)
        self.zero = zero[regular]

    @cached_property
    def granularity(self) -> float:
        """Smallest difference between recorded errors (zero among them), beyond rounding; 0 if they are not counted.

        Errors that are counted come again and again where they are small.
        """
        single = [np.float32(values) == values for values in (self.error, 1 - self.error)]  # errors or accuracies
        digits = 7 if any(exact.all() for exact in single) else 12
        rounded = np.round(self.error, digits)
        smallest = np.sort(rounded[rounded > 0])[:_SMALL_ERRORS]
        if np.unique(smallest).size > _MOSTLY_DIFFERENT * smallest.size:
            return 0.0
        levels = np.unique(np.append(rounded, 0.0))
        return float(np.diff(levels).min()) if levels.size > 1 else 0.0

    def mean_error(self, distance: float) -> float:
        """Mean error of the records up to this distance, every member weighing the same."""
        inside = slice(0, int(np.searchsorted(self.distance, distance / _EDGE)))
        count = np.bincount(self.member[inside], minlength=self.step.size)
        total = np.bincount(self.member[inside], self.error[inside], self.step.size)
        return float((total / np.maximum(count, 1))[count > 0].mean()) if inside.stop else 0.0

    def binned(self, near: float, far: float) -> BinnedErrors | None:
        """Bins between two distances, of the members whose record covers both; None if there are fewer than two."""
        covers = (self.furthest >= far * _EDGE) & (self.step <= near / _EDGE)
        number = max(2, round(BINS_PER_DECADE * np.log10(far / near)))
        edges = np.geomspace(near, far, number + 1) * _EDGE
        edges[-1] = far / _EDGE
        inside = slice(*np.searchsorted(self.distance, edges[[0, -1]]))
        kept = covers[self.member[inside]]
        member, error, distance = (values[inside][kept] for values in (self.member, self.error, self.distance))
        rows = np.cumsum(covers) - 1
        bins = np.searchsorted(edges, distance, side="right") - 1
        counts = np.bincount(rows[member] * number + bins, minlength=int(covers.sum()) * number).reshape(-1, number)
        merged = _merged(counts)
        if counts.shape[0] < 2 or merged is None:
            return None
        bins, number = merged[bins], int(merged[-1]) + 1

        flat = rows[member] * number + bins
        counts = np.bincount(flat, minlength=len(counts) * number).reshape(-1, number)
        errors = np.bincount(flat, error, counts.size).reshape(-1, number) / counts
        scale = float(errors[:, 0].mean())
        if scale <= 0 or (errors.mean(axis=0) <= 0).any():
            return None
        nodes = _nodes(distance / far, self.step[member] / far, bins, 1 / counts.reshape(-1)[flat], number)
        return BinnedErrors(errors / scale, *nodes, near=near, far=far, scale=scale)


def _merged(counts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Number of the merged bin of every bin, such that every member has a record in each; None if that leaves one."""
    number = np.empty(counts.shape[1], dtype=np.int64)
    waiting, done = np.zeros(len(counts), dtype=np.int64), 0
    for place, column in enumerate(counts.T):
        waiting = waiting + column
        number[place] = done
        if waiting.all():
            waiting, done = np.zeros_like(waiting), done + 1
    return np.minimum(number, done - 1) if done > 1 else None


def _nodes(
    distance: FloatArray, step: FloatArray, bins: NDArray[np.int64], weight: FloatArray, number: int
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.intp]]:
    """Mean distance, mean step and weight of at most ``_NODES`` groups of ascending distances in every bin."""
    total = np.bincount(bins, weight, number)
    start = np.concatenate([[0.0], np.cumsum(total)[:-1]])
    position = (np.cumsum(weight) - weight / 2 - start[bins]) / total[bins]
    node = bins * _NODES + np.clip((position * _NODES).astype(np.int64), 0, _NODES - 1)
    shares = np.bincount(node, weight, number * _NODES)
    used = np.flatnonzero(shares > 0)
    distances = np.bincount(node, weight * distance, shares.size)[used] / shares[used]
    steps = np.bincount(node, weight * step, shares.size)[used] / shares[used]
    first = np.searchsorted(used // _NODES, np.arange(number))
    return distances, steps, shares[used] / total[used // _NODES], first


def _power_and_slopes(distance: FloatArray, exponent: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """s^ν and its derivatives by ν and by s."""
    power = distance**exponent
    return power, power * np.log(distance), exponent * power / distance


def _averaged_power_and_slopes(
    distance: FloatArray, resolution: FloatArray, exponent: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(s − u r)^ν averaged over u in (0, 1), and its derivatives by ν and by s."""
    end = np.maximum(distance - resolution, 0.0)  # s at u = 1
    power = exponent + 1
    log_far = np.log(distance)
    log_near = np.log(np.maximum(end, _TINY))
    far_power = np.exp(power * log_far)
    near_power = np.where(end > 0, np.exp(power * log_near), 0.0)
    with np.errstate(divide="ignore"):  # a record right at the zero
        difference = far_power * -np.expm1(power * np.log1p(-np.minimum(resolution / distance, 1.0)))
    mean = difference / power
    by_exponent = (far_power * log_far - near_power * log_near) / power - mean / power
    by_distance = far_power / distance - np.where(end > 0, near_power / np.maximum(end, _TINY), 0)
    return mean / resolution, by_exponent / resolution, by_distance / resolution


class ScalingLaw:
    """The law of the header for given bins.

    Parameters
    ----------
    bins
        What is fitted.
    tolerance, granularity
        Largest error that counts as zero, and q, in units of ``bins.scale``.
    jump, phase
        Whether J is free; whether u is one number that is fitted, in place of an average.
    """

    def __init__(
        self, bins: BinnedErrors, tolerance: float, granularity: float, *, jump: bool, phase: bool = False
    ) -> None:
        self._bins, self._tolerance, self._granularity, self._jump = bins, tolerance, granularity, jump
        names = ["amplitude", "exponent", "correction", *["shift"] * (granularity > 0), *["phase"] * phase]
        names += ["jump"] * jump
        self.place = {name: place for place, name in enumerate(names)}
        limits = {
            "amplitude": (-30.0, 30.0),
            "exponent": (SMALLEST_EXPONENT if jump else -0.9, _LARGEST_EXPONENT),
            "correction": (-3.0, 3.0) if jump else (-_LARGEST_CORRECTION, _LARGEST_CORRECTION),
            "shift": (_SMALLEST_SHIFT, _LARGEST_SHIFT),
            "phase": (0.0, _LATEST_PHASE),
            "jump": (0.0, np.inf),
        }
        self._threshold_matters = tolerance > 0 or granularity > 0
        self._low, self._high = np.array([limits[name] for name in names]).T

    def with_jump(self) -> "ScalingLaw":
        """The same law with J free."""
        phase = "phase" in self.place
        return ScalingLaw(self._bins, self._tolerance, self._granularity, jump=True, phase=phase)

    def log_error(self, parameters: FloatArray) -> FloatArray:
        """Logarithm of the mean error: (sample, parameter) -> (sample, bin)."""
        return self.log_error_and_slope(parameters)[0]

    def slope(self, parameters: FloatArray) -> FloatArray:
        """Derivatives of the logarithm of the mean error: (parameter,) -> (bin, parameter)."""
        return self.log_error_and_slope(parameters[None])[1][0]

    def vanishing_share(self, parameters: FloatArray) -> FloatArray:
        """Share of the mean error that is not the jump: (parameter,) -> (bin,)."""
        if not self._jump:
            return np.ones(self._bins.first.size)
        return 1 - parameters[self.place["jump"]] / np.exp(self.log_error(parameters[None])[0])

    def variance_of_spread_zeros(self, parameters: FloatArray) -> float:
        """Variance of the difference of the relative errors in the first two bins if u is uniform, for one member."""
        bins = self._bins
        far_end = bins.distance
        if self._threshold_matters:
            far_end = far_end + self._shift(parameters[None])[0]
        places = (np.arange(_PLACES)[:, None] + 0.5) / _PLACES
        exponent = max(parameters[self.place["exponent"]], _SMALLEST_POWER)
        law = bins.mean(np.maximum(far_end - places * bins.resolution, 0.0) ** exponent)
        relative = law[:, :2] / law[:, :2].mean(axis=0)
        return float((relative[:, 0] - relative[:, 1]).var())

    def log_error_and_slope(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Logarithm of the mean error (sample, bin) and its derivatives (sample, bin, parameter)."""
        bins, place = self._bins, self.place
        amplitude, exponent, correction = (column[:, None] for column in parameters.T[:3])
        distance = bins.distance  # s at u = 0
        if self._threshold_matters:
            shift, shift_by_amplitude, shift_by_exponent, shift_by_grains = self._shift(parameters)
            distance = distance + shift
        if "phase" in place:
            distance = distance - parameters[:, place["phase"], None] * bins.resolution
            power, by_exponent, by_distance = _power_and_slopes(distance, exponent)
        else:
            power, by_exponent, by_distance = _averaged_power_and_slopes(distance, bins.resolution, exponent)
        growth = np.exp(amplitude + correction * bins.distance)
        law, by_exponent, by_distance = growth * power, growth * by_exponent, growth * by_distance
        by_amplitude = law
        if self._threshold_matters:
            by_amplitude = law + by_distance * shift_by_amplitude
            by_exponent = by_exponent + by_distance * shift_by_exponent
        slopes = [by_amplitude, by_exponent, law * bins.distance]
        if "shift" in place:
            slopes.append(by_distance * shift_by_grains)
        if "phase" in place:
            slopes.append(-by_distance * bins.resolution)
        error = bins.mean(law)
        slopes = [bins.mean(slope) for slope in slopes]
        if self._jump:
            error = error + parameters[:, place["jump"], None]
            slopes.append(np.ones_like(error))
        error = np.maximum(error, _TINY)
        return np.log(error), np.stack([slope / error for slope in slopes], axis=-1)

    def _shift(self, parameters: FloatArray) -> tuple[FloatArray, ...]:
        """σ, never beyond the window itself, and its derivatives by amplitude, exponent and shift: (sample, 1) each."""
        amplitude, exponent = parameters[:, 0, None], np.maximum(parameters[:, 1, None], _SMALLEST_POWER)
        threshold = np.full_like(amplitude, self._tolerance)
        if "shift" in self.place:
            threshold = threshold + parameters[:, self.place["shift"], None] * self._granularity
        logarithm = (np.log(np.maximum(threshold, _TINY)) - amplitude) / exponent
        inside = logarithm < 0
        shift = np.exp(np.where(inside, logarithm, 0.0))
        slope = np.where(inside, shift / exponent, 0.0)
        by_exponent = np.where(parameters[:, 1, None] > _SMALLEST_POWER, -slope * logarithm, 0.0)
        return shift, -slope, by_exponent, slope * self._granularity / np.maximum(threshold, _TINY)

    def fit(self, log_mean: FloatArray, *, without_jump: bool = False) -> FloatArray:
        """Parameters for one sample, shape (bin,): the best of several starts, of all or of those with J = 0."""
        high = self._high.copy()
        if without_jump:
            high[self.place["jump"]] = 0.0
        rest = [0.0] + [1.0] * ("shift" in self.place) + [0.5] * ("phase" in self.place)
        starts = [[log_mean[-1], exponent, *rest, *[0.0] * self._jump] for exponent in (0.5, 1.0, 2.5)]
        if self._jump:
            for share in (0.5, 0.95):
                left = max(float(np.exp(log_mean[-1])) - share, 1e-3)
                starts.append([np.log(left), 1.0, *rest, share])
        samples = np.broadcast_to(log_mean, (len(starts), log_mean.size))
        found, cost = self._descend(samples, np.array(starts), 60, high)
        return found[cost.argmin()]

    def refit(self, log_means: FloatArray, start: FloatArray) -> FloatArray:
        """Parameters for many samples near one whose parameters are known."""
        best, cost = self._descend(log_means, np.broadcast_to(start, (len(log_means), start.size)), 15, self._high)
        if self._jump:  # a second valley: no jump at all
            other = start.copy()
            other[self.place["jump"]], other[:2] = 0.0, (log_means[:, -1].mean(), 0.7)
            alternative, its_cost = self._descend(log_means, np.broadcast_to(other, best.shape), 15, self._high)
            best = np.where((its_cost < cost)[:, None], alternative, best)
        return best

    def _descend(
        self, log_means: FloatArray, start: FloatArray, steps: int, high: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Levenberg-Marquardt for all samples at a time, up to the bounds ``high``; also the sums of squares."""
        parameters = np.clip(start, self._low, high)
        here, slope = self.log_error_and_slope(parameters)
        residual = log_means - here
        cost = (residual**2).sum(axis=1)
        damping = np.full(len(cost), 1e-3)
        unit = np.eye(parameters.shape[1])
        for _ in range(steps):
            normal = slope.swapaxes(1, 2) @ slope
            scale = np.diagonal(normal, axis1=1, axis2=2) + 1e-12
            damped = normal + (damping[:, None] * scale + 1e-12)[:, :, None] * unit
            move = np.linalg.solve(damped, (residual[:, None] @ slope).swapaxes(1, 2))[..., 0]
            trial = np.clip(parameters + move, self._low, high)
            here, its_slope = self.log_error_and_slope(trial)
            its_cost = ((log_means - here) ** 2).sum(axis=1)
            better = its_cost <= cost
            gain = np.where(better, (cost - its_cost) / (cost + _NEGLIGIBLE_COST), 0.0).max()
            parameters = np.where(better[:, None], trial, parameters)
            residual = np.where(better[:, None], log_means - here, residual)
            slope = np.where(better[:, None, None], its_slope, slope)
            cost = np.where(better, its_cost, cost)
            damping = np.where(better, damping * 0.2, damping * 8)
            if better.any() and gain < 1e-6:
                break
        return parameters, cost
