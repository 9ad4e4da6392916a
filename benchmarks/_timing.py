"""Shared by the benchmark scripts: best-of-several timing and one table format."""

import time
from collections.abc import Callable

__all__ = ["Row", "best_time", "print_table"]

Row = tuple[str, float, float | None, float | None]
"""Task, our seconds, goal in seconds (or None), seconds of the naive way (or None)."""


def best_time(task: Callable[[], object], repeats: int = 3) -> float:
    """Shortest wall time of several runs: the machine's noise only ever adds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return min(times)


def print_table(title: str, rows: list[Row]) -> None:
    """Print the rows with the speed-up over the naive way and whether the goal is met."""
    print(f"\n{title}\n{'task':64s} {'ours/s':>10s} {'goal/s':>8s} {'met':>4s} {'naive/s':>10s} {'speed-up':>9s}")
    for task, ours, goal, naive in rows:
        goal_text, met = ("", "") if goal is None else (f"{goal:.3g}", "yes" if ours <= goal else "NO")
        naive_text, speed_up = ("", "") if naive is None else (f"{naive:.3g}", f"{naive / ours:.0f}x")
        print(f"{task:64s} {ours:10.4g} {goal_text:>8s} {met:>4s} {naive_text:>10s} {speed_up:>9s}")
