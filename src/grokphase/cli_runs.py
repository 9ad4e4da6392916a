"""The commands for ensembles: ``grokphase simulate`` and ``grokphase status``.

Progress goes to standard error: a bar on a terminal, elsewhere (a batch system's log) a line now and then.
"""

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    import xarray as xr

    from grokphase.runs import Status
    from grokphase.training import Scenario

__all__ = ["duration", "members_progress", "simulate", "status"]

_SECONDS_BETWEEN_LINES = 30.0

Flag = Annotated[bool, Parameter(name="--json", negative=())]
Several = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]


def simulate(
    scenario: Path,
    /,
    *,
    store: str,
    workers: int | None = None,
    cluster: str | None = None,
    snapshots: Several = (),
    block_size: int | None = None,
) -> None:
    """Train an ensemble into a folder; after an interruption the same command goes on.

    Parameters
    ----------
    scenario
        TOML file that says what to train, as gp.Scenario(...).to_toml(path) writes it
    store
        folder in which the trajectories are kept
    workers
        local processes with one core each; by default one process with all cores
    cluster
        address of a Dask scheduler that computes instead, such as tcp://host:8786
    snapshots
        times at which parameters and contexts are kept, also zero_test and last
    block_size
        members a block
    """
    from grokphase.runs import simulate as run

    read = _read_scenario(scenario)
    with members_progress("members", Console(stderr=True)) as progress:
        trajectories = run(
            read,
            store=store,
            workers=workers,
            cluster=cluster,
            snapshots=tuple(map(_snapshot, snapshots)) or None,
            block_size=block_size,
            progress=progress,
        )
    _print({**_outcome(trajectories), "kept in": store, "open it in Python with": f"gp.open({store!r})"})


def status(store: str, /, *, as_json: Flag = False) -> None:
    """Show how far an ensemble is, also while another process computes it.

    Parameters
    ----------
    store
        folder that "grokphase simulate" fills
    as_json
        print JSON instead of text; what is not known is null
    """
    from grokphase.runs import status as look

    found = look(store)
    if as_json:
        data = {"schema": 1, "store": store, **asdict(found), "left": found.left, "complete": found.complete}
        print(json.dumps({name: _finite(value) for name, value in data.items()}, indent=2, allow_nan=False))
        return
    damaged = f" ({found.damaged} of them damaged)" if found.damaged else ""
    lines = {
        "members": f"{found.members}",
        "done": f"{found.done}",
        "running": f"{found.running}",
        "left": f"{found.left}{damaged}",
        "speed": _speed(found) or "not known yet",
    }
    if found.complete:
        lines["open it in Python with"] = f"gp.open({store!r})"
    elif found.owner is None:
        lines["time left"] = "nobody works on it"
        command = ["grokphase", "simulate", str(Path(store) / "scenario.toml"), "--store", store]
        lines["go on with"] = shlex.join(command)
    else:
        lines["time left"] = duration(found.seconds_left) or "not known yet"
        lines["worked on by"] = found.owner
    _print(lines)


def _read_scenario(path: Path) -> "Scenario":
    from grokphase.training import Scenario

    try:
        return Scenario.from_toml(path)
    except OSError as error:
        raise ValueError(f"scenario must be a TOML file, got {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"scenario must be a TOML file, got {str(path)!r}, which is no text") from None


def _snapshot(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _outcome(trajectories: "xr.Dataset") -> dict[str, str]:
    """What became of the members."""
    import numpy as np

    about = trajectories["status"].attrs
    meanings = dict(zip(about["flag_meanings"].split(), about["flag_values"], strict=True))
    test, train = trajectories["zero_test_time"].values, trajectories["zero_train_time"].values
    reached = np.isfinite(test)
    broken = ~reached & (trajectories["status"].values == meanings["non-finite"])
    lines = {
        "members": f"{reached.size}",
        "reached zero test error": f"{reached.sum()}",
        "did not within the duration (censored)": f"{(~reached & ~broken).sum()}",
        "ended before by numbers that are not finite": f"{broken.sum()}",
    }
    both = reached & np.isfinite(train)
    times = test[both] - train[both]
    if times.size:
        error = times.std(ddof=1) / times.size**0.5 if times.size > 1 else 0.0
        whose = "those that reached it" if times.size == reached.sum() else f"the {times.size} with both zero times"
        lines["mean grokking time"] = f"{_with_error(times.mean(), error)}, of {whose}: leaves out the censored"
    return lines


def _with_error(mean: float, error: float) -> str:
    """To two digits of the standard error.

    >>> _with_error(0.6123, 0.0214), _with_error(0.6123, 0.0)
    ('0.612 ± 0.021', '0.6123')
    """
    if not error:
        return f"{mean:.4g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


# --- progress ---


@contextmanager
def members_progress(description: str, console: Console) -> Iterator[Callable[["Status"], None]]:
    """Show members done, model-steps a second and time left, for ``progress`` of :func:`grokphase.simulate`.

    A bar that vanishes at the end; where the console is no terminal, a line at the beginning, at the end, and
    now and then between.
    """
    if not console.is_terminal:
        yield _Lines(description)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TextColumn("{task.fields[speed]}"),
        _TimeLeft(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=None, count="", speed="", ends=math.nan)

        def show(status: "Status") -> None:
            bar.update(
                task,
                total=status.members,
                completed=status.done,
                count=f"{status.done} of {status.members}",
                speed=_speed(status),
                ends=time.monotonic() + status.seconds_left,
            )

        yield show


class _Lines:
    def __init__(self, description: str) -> None:
        self._description = description
        self._last = -math.inf

    def __call__(self, status: "Status") -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES and not status.complete:
            return
        self._last = now
        left = "" if status.complete else duration(status.seconds_left)
        parts = [f"{status.done} of {status.members} done", _speed(status), f"{left} left" if left else ""]
        print(f"{self._description}: {', '.join(filter(None, parts))}", file=sys.stderr, flush=True)


class _TimeLeft(ProgressColumn):
    """Counts down between two reports."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        left = duration(task.fields["ends"] - time.monotonic())
        return Text(f"{left} left" if left else "")


def _speed(status: "Status") -> str:
    """Nothing if it is not known."""
    speed = status.steps_per_second
    return f"{speed:,.0f} model-steps/s" if math.isfinite(speed) else ""


def duration(seconds: float) -> str:
    """A time in its two largest units; nothing if it is not known.

    >>> duration(59.7), duration(3 * 3600 + 125), duration(float("nan"))
    ('1 min', '3 h 2 min', '')
    """
    if not math.isfinite(seconds):
        return ""
    if seconds < 59.5:
        return f"{max(0.0, seconds):.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in [part for part in parts if part[0]][:2])


# --- output ---


def _print(lines: Mapping[str, str]) -> None:
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
