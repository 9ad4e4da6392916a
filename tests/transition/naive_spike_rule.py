"""The spike rule once more, one run at a time and in plain Python: the slow twin that the package is compared with."""

import math
from itertools import pairwise
from statistics import median


def deviation(values):
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


class NaiveSpikeRule:
    """Calls ``update(loss, dimension)``; returns (action, restored record, effect, before, after).

    Snapshots are record numbers in a list: the caller has nothing to hold.
    """

    def __init__(self, *, factor, window, tolerance, patience, snapshots, max_rollbacks):
        self.factor, self.window, self.tolerance = factor, window, tolerance
        self.patience, self.max_rollbacks = patience, max_rollbacks
        self.slots, self.interval = snapshots, math.ceil(window / (snapshots - 1))
        self.history = []  # of (h, D_eff), None where there is none
        self.snapshots, self.last_saved = [-1], -1
        self.baseline_from, self.rollbacks, self.now = 0, 0, -1
        self.spike, self.lost = None, False

    def update(self, loss, dimension):
        self.now += 1
        finite = math.isfinite(loss)
        h = math.log(loss) if finite else None
        dimension = dimension if finite and math.isfinite(dimension) else None
        if self.spike is None and finite and self.now >= self.window:
            self.spike = self.opened(h)
        passed = self.spike is None and self.now - self.baseline_from >= 2 * self.window
        self.history.append((h, dimension))
        if not finite:
            return self.broken(passed)
        self.lost = False
        if self.spike is not None and self.spike["detected"] < self.now and self.ready(h):
            return self.judge()
        if self.spike is None and self.now - self.last_saved >= self.interval:
            self.save()
        if passed:
            self.rollbacks = 0
        return "continue", None, 0, None, None

    def opened(self, h):
        recent = list(enumerate(self.history))[-self.window :]
        first = self.now - len(recent)
        usable = [(first + i, h) for i, (_, (h, _)) in enumerate(recent) if h is not None]
        known = [old for _, (old, _) in recent]
        steps = [b - a for a, b in pairwise(known) if a is not None and b is not None]
        scatter = deviation(steps) / math.sqrt(2) if steps else 0.0
        usable = [(record, old) for record, old in usable if record >= self.baseline_from]
        if not usable:
            return None
        level = min(old for _, old in usable)
        foot = max(record for record, old in usable if old == level)
        threshold = max(math.log(self.factor), 10 * scatter)
        if h - level < threshold:
            return None
        start = max(record for record, old in usable if old <= level + threshold / 2)
        self.snapshots = [record for record in self.snapshots if record < foot]
        before = [pair if first + i <= start else (None, None) for i, (_, pair) in enumerate(recent)]
        return {
            **{"foot": foot, "level": level, "threshold": threshold, "start": start, "before": before},
            **{"detected": self.now, "peak": h, "end": None, "lowest": None, "last": None},
        }

    def ready(self, h):
        spike = self.spike
        if spike["end"] is not None:  # settling
            if h > spike["peak"] or h - spike["lowest"] >= spike["threshold"]:
                spike["end"] = None
                spike["peak"] = max(spike["peak"], h)
                return False
            spike["lowest"] = min(spike["lowest"], h)
            return self.now - spike["end"] + 1 >= self.length()
        spike["peak"] = max(spike["peak"], h)
        if h <= (spike["peak"] + spike["level"]) / 2:
            spike["end"], spike["lowest"] = self.now, h
            return False
        if self.now - spike["detected"] >= self.patience:
            spike["end"] = self.now
            return True
        return False

    def length(self):
        return min(max(self.spike["end"] - self.spike["start"], 3), self.window)

    def judge(self):
        length = self.length()
        before = [value for _, value in self.spike["before"] if value is not None][-length:]
        after = [value for _, value in self.history[-length:] if value is not None]
        effect = 0
        levels = [median(values) if values else None for values in (before, after)]
        if before and after:
            scatter = math.hypot(*(deviation(values) / math.sqrt(len(values)) for values in (before, after)))
            change = levels[1] - levels[0]
            if abs(change) > max(2 * scatter, (self.tolerance + 1e-12) * levels[0]):
                effect = 1 if change > 0 else -1
        if effect > 0 and self.rollbacks < self.max_rollbacks:
            return "roll back", self.back(), effect, *levels
        action = "give up" if effect > 0 else "keep"
        self.rollbacks, self.snapshots, self.spike = 0, [], None
        self.save()
        self.baseline_from = self.now + 1
        return action, None, effect, *levels

    def broken(self, passed):
        if self.lost:
            self.rollbacks = 0 if passed else self.rollbacks
            return "continue", None, 0, None, None
        if self.spike is None:
            usable = [record for record in self.snapshots if record < self.now - 1]
        else:
            usable = self.snapshots
        before = None if self.spike is None else [v for _, v in self.spike["before"] if v is not None]
        if usable and self.rollbacks < self.max_rollbacks:
            self.snapshots = usable
            return "roll back", self.back(), 0, before, None
        self.spike, self.lost, self.baseline_from = None, True, self.now + 1
        self.rollbacks = 0 if passed else self.rollbacks
        return "give up", None, 0, before, None

    def back(self):
        if self.spike is not None:
            self.history[-self.window :] = self.spike["before"]
        self.spike = None
        self.rollbacks += 1
        self.baseline_from, self.last_saved = self.now + 1, self.now
        return max(self.snapshots)

    def save(self):
        self.snapshots = [*self.snapshots, self.now][-self.slots :]
        self.last_saved = self.now
