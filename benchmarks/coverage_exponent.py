"""How often the interval of an exponent covers, how often there is none, and what is said of jumps.

Run ``python benchmarks/coverage_exponent.py``: 500 ensembles a case, about 20 minutes of a core; another number may be
given, and ``--only WORD`` for the cases whose name contains a word.  The ensembles are those of the tests
(``tests/transition/synthetic.py``): 40 runs, each with an amplitude of its own (scatter 30%), whose error is a power
law that bends towards chance level some 60 steps before its zero.

Columns of continuous cases: ensembles that were refused an exponent, and that because of a jump; coverage of the 95%
interval among the answers, with its binomial standard error; coverage by the scatter of the runs alone (without the
systematic part); bias; mean width of the interval, and 3.92 times the root mean square error of the estimates, the
width that would do.  Columns of jumps: how often "first", "undecided" and "continuous" is said, how often an exponent
is sold, and the mean of these.
"""

import argparse
import contextlib
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import grokphase as gp

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "transition"))
from synthetic import CONTINUOUS, JUMPS, SMALL_JUMPS, as_runs, power_law_runs

_CONTINUOUS_HEADER = " refused as jump           covers runs alone     bias   width   would"
_JUMP_HEADER = "     first  undecided continuous    sold mean sold"


def measured_continuous(exponent: float, repetitions: int, options: dict) -> str:
    """One row of the first table."""
    rng = np.random.default_rng(1)
    refusals: Counter[str] = Counter()
    answers = []
    for seed in range(repetitions):
        transition = gp.measure(as_runs(*power_law_runs(rng, exponent, **options)))
        try:
            fit = transition.exponent(seed=seed)
        except gp.ShortScalingWindow as refusal:
            refusals["jump" if "jump" in str(refusal) else "other"] += 1
            continue
        answers.append((fit.value, fit.low, fit.high, fit.systematic))
    if not answers:
        return "no answers"
    value, low, high, systematic = np.array(answers).T
    total = value.size
    covered = np.mean((low <= exponent) & (exponent <= high))
    runs_alone = np.mean((low + systematic <= exponent) & (exponent <= high - systematic))
    error = np.sqrt(covered * (1 - covered) / total)
    would_do = 3.92 * np.sqrt(np.mean((value - exponent) ** 2))
    return (
        f"{1 - total / repetitions:8.1%} {refusals['jump'] / repetitions:7.1%} {covered:9.1%} ±{error:5.1%} "
        f"{runs_alone:10.1%} {value.mean() - exponent:+8.4f} {np.mean(high - low):7.3f} {would_do:7.3f}"
    )


def measured_jump(exponent: float, repetitions: int, options: dict) -> str:
    """One row of the second table."""
    rng = np.random.default_rng(2)
    said: Counter[str] = Counter()
    sold = []
    for seed in range(repetitions):
        transition = gp.measure(as_runs(*power_law_runs(rng, exponent, **options)))
        said[transition.order(seed=seed).kind] += 1
        with contextlib.suppress(gp.ShortScalingWindow):
            sold.append(transition.exponent(seed=seed).value)
    shares = " ".join(f"{said[kind] / repetitions:10.1%}" for kind in ("first", "undecided", "continuous"))
    return f"{shares} {len(sold) / repetitions:7.1%} {f'{np.mean(sold):.2f}' if sold else '':>9s}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the exponent's interval.")
    parser.add_argument("repetitions", nargs="?", type=int, default=500)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    tables = ((CONTINUOUS, measured_continuous, _CONTINUOUS_HEADER), (JUMPS | SMALL_JUMPS, measured_jump, _JUMP_HEADER))
    for cases, measured, header in tables:
        print(f"\n{arguments.repetitions} ensembles a case\n{'case':32s} {header} {'s each':>7s}")
        for case, (exponent, options) in cases.items():
            if arguments.only in case:
                start = time.perf_counter()
                row = measured(exponent, arguments.repetitions, options)
                each = (time.perf_counter() - start) / arguments.repetitions
                print(f"{case:32s} {row} {each:7.2f}", flush=True)


if __name__ == "__main__":
    main()
