"""The command line: ``grokphase predict``, ``simulate``, ``status``, ``list``, ``run``, ``reproduce``
and ``analyze``.

A user's mistake ends in one line on standard error and exit code 2.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from grokphase import __version__, cli_runs
from grokphase.predict import Prediction, predict_ball, predict_exponential

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["main"]

ScaleName = Literal["quick", "paper"]
Folder = Annotated[Path, Parameter(help="folder for the results; made if it is not there")]
Seed = Annotated[int, Parameter(help="seed of everything that is drawn")]
Gap = Annotated[float, Parameter(name=["--gap", "--class-gap"])]
Samples = Annotated[int, Parameter(name=["--samples", "--samples-per-class"])]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="print JSON instead of text")]
Plot = Annotated[Path | None, Parameter(help="draw it into this file (svg, pdf, png, ...)")]

_DEFAULT_FOLDER = Path("grokphase-report")
_INTERRUPTED = 130  # the shell's codes for a program ended by Ctrl-C, or by a closed pipe
_BROKEN_PIPE = 141

app = App(
    name="grokphase",
    help="Predict, simulate and measure grokking as a phase transition.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
predict = App(name="predict", help="What the solvable models say for one set of parameters.")
app.command(predict)
app.command(cli_runs.simulate)
app.command(cli_runs.status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _refuse(str(error))
    except BrokenPipeError:  # who reads our output has seen enough, as "head" does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return _refuse(str(error) if error.filename or not error.strerror else error.strerror)  # no "[Errno 28]"
    except ValueError as error:
        return _refuse(str(error))
    except KeyboardInterrupt as stopped:
        where = str(stopped) or "interrupted; the same command goes on from here"
        print(f"grokphase: {where}", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _refuse(message: str) -> int:
    print(f"grokphase: {' '.join(message.split())}", file=sys.stderr)
    return 2


# --- predict ---


@predict.command
def exponential(
    *, gap: Gap, samples: Samples, l1: float = 0.0, l2: float = 0.0, as_json: Json = False, plot: Plot = None
) -> None:
    """The one-dimensional exponential model, exact.

    Parameters
    ----------
    gap
        class gap ε ≥ 0
    samples
        samples per class N ≥ 1
    l1
        L1 regularisation λ₁ ≥ 0
    l2
        L2 regularisation λ₂ ≥ 0
    """
    _show(predict_exponential(gap, samples, l1, l2), as_json, plot)


@predict.command
def ball(
    *,
    dimension: int,
    gap: Gap,
    samples: Samples,
    l1: float = 0.0,
    l2: float = 0.01,
    trials: int | None = None,
    seed: Seed = 0,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """The ball model in D dimensions: theory beside simulated training.

    Parameters
    ----------
    dimension
        dimension D ≥ 1
    gap
        class gap ε ≥ 0, in ball radii
    samples
        samples per class N ≥ 1
    l1
        L1 regularisation λ₁ ≥ 0
    l2
        L2 regularisation λ₂ ≥ 0
    trials
        number of drawn training sets (by default at most 10 000, fewer if they are large)
    """
    _show(predict_ball(dimension, gap, samples, l1, l2, trials=trials, seed=seed), as_json, plot)


def _show(prediction: Prediction, as_json: bool, plot: Path | None) -> None:
    if plot is not None:
        _save(prediction.draw, plot)
    if as_json:
        print(json.dumps(prediction.data, indent=2, allow_nan=False))
        return
    console = Console()
    table = Table(show_header=False, box=None)
    for name, value in _flat(prediction.data):
        table.add_row(name, value)
    console.print(table)
    console.print(f"\n{prediction.sentence}")


def _save(draw: Callable[[], "Figure"], path: Path) -> None:
    from grokphase.experiments._style import style

    figure = draw()
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise ValueError(f"plot must end in one of {', '.join(sorted(known))}, got {str(path)!r}")
    try:
        with style():
            figure.savefig(path)
    except OSError as error:
        raise ValueError(f"plot must be a file that can be written, got {str(path)!r}: {error.strerror}") from None


def _flat(data: dict[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested dictionaries as lines "a, b: value"; what does not exist is left out."""
    for key, value in data.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}, ")
        elif value is not None and key != "schema":
            yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


# --- experiments ---


@app.command(name="list")
def list_experiments() -> None:
    """Show the experiments there are."""
    from grokphase.experiments import NAMES, load

    table = Table("name", "title", "options", box=None)
    for name in NAMES:
        experiment = load(name)
        options = ", ".join(f"--{key} {value}" for key, value in experiment.options.items())
        table.add_row(name, experiment.title, options)
    Console().print(table)


@app.command
def run(
    experiment: str,
    /,
    *,
    out: Folder = _DEFAULT_FOLDER,
    scale: ScaleName = "quick",
    seed: Seed = 0,
    **options: str,
) -> None:
    """Compute and draw one experiment, and compare it with the paper.

    Parameters
    ----------
    experiment
        a name that "grokphase list" shows
    scale
        how much is computed
    options
        the experiment's own options, as "grokphase list" shows them
    """
    from grokphase.experiments import load
    from grokphase.reproduce import checked_options, output_folder, run_experiment

    checked_options(load(experiment), options)
    folder = output_folder(out)
    with _progress() as bar:
        task = bar.add_task(experiment, total=1.0)
        section = run_experiment(
            experiment,
            folder,
            scale=scale,
            seed=seed,
            options=options,
            progress=lambda fraction: bar.update(task, completed=fraction),
            note=lambda text: bar.update(task, description=f"{experiment}: {text}"),
        )
    table = Table("quantity", "published", "computed", "uncertainty", "verdict")
    for row in section.comparisons:
        table.add_row(row.quantity, row.published, row.computed, row.uncertainty, row.verdict)
    console = Console()
    console.print(table)
    for sentence in section.findings:
        console.print(f"– {sentence}", highlight=False)
    console.print(f"{folder / experiment}.svg, .nc", highlight=False, soft_wrap=True)


@app.command
def reproduce(*, out: Folder = _DEFAULT_FOLDER, scale: ScaleName = "quick", seed: Seed = 0) -> None:
    """Run every experiment and write a report: published and computed numbers side by side.

    Parameters
    ----------
    scale
        how much is computed: "quick" takes a few minutes
    """
    from grokphase.experiments import NAMES
    from grokphase.report import render, write_whole
    from grokphase.reproduce import output_folder, run_experiment

    folder = output_folder(out)
    sections = []
    with _progress() as bar:
        everything = bar.add_task("all experiments", total=len(NAMES))
        for done, name in enumerate(NAMES):
            task = bar.add_task(name, total=1.0)

            def advance(fraction: float, task: object = task, done: int = done) -> None:
                bar.update(task, completed=fraction)  # type: ignore[arg-type]
                bar.update(everything, completed=done + fraction)

            sections.append(run_experiment(name, folder, scale=scale, seed=seed, progress=advance))
            bar.remove_task(task)
            if bar.disable:  # a log file gets a line for each experiment instead of a bar
                print(f"{name}: done in {sections[-1].seconds:.1f} s ({done + 1} of {len(NAMES)})", file=sys.stderr)
    path = folder / "report.html"
    write_whole(path, render(sections, scale=scale, seed=seed, version=__version__).encode())
    Console().print(f"The report is at {path.resolve()}", highlight=False, soft_wrap=True)


# --- analyze ---


@app.command
def analyze(
    log: Path,
    /,
    *more: Path,
    train: str | None = None,
    test: str | None = None,
    time: str | None = None,
    member: str | None = None,
    tolerance: float = 0.0,
    window: Annotated[tuple[float, float] | None, Parameter(negative=())] = None,
    which: Literal["first", "final"] = "first",
    values: Literal["error", "accuracy", "error percent", "accuracy percent"] | None = None,
    restart: Literal["resume"] | None = None,
    as_json: Json = False,
    plot: Plot = None,
) -> None:
    """Measure the transition in your own training logs.

    Parameters
    ----------
    log
        CSV, JSON lines, Parquet, or a folder of TensorBoard event files
    more
        further ones, if each holds one run
    train
        column of the training accuracy or error; by default told by the names, like the next three
    test
        column of the test (validation) accuracy or error
    time
        column of the steps or epochs
    member
        column that tells runs apart, such as a seed
    tolerance
        largest error that counts as zero, as a fraction: 0.01 is one percent
    window
        nearest and furthest distance before zero test error, for the exponent; by default chosen by a scan
    which
        zero error counts from its first record, or from the last return to it
    values
        what the columns hold, if their names do not say so
    restart
        "resume": a run whose time goes back to the beginning was started anew
    """
    from grokphase.analyze import analyze as analyzed

    try:
        found = analyzed(
            log if not more else [log, *more],
            time=time,
            train=train,
            test=test,
            member=member,
            values=values,
            restart=restart,
            tolerance=tolerance,
            window=window,
            which=which,
        )
    except ValueError as error:
        raise ValueError(_as_options(str(error))) from None
    if plot is not None:
        _save(found.draw, plot)
    if as_json:
        print(json.dumps(found.data, indent=2, allow_nan=False))
        return
    console = Console(markup=False, emoji=False)  # names in a log may look like either
    console.print(" ".join(found.sentences), highlight=False)
    table = Table("quantity", "value", f"{found.data['confidence']:.0%} interval", "", box=None)
    for row in found.quantities:
        table.add_row(*row)
    console.print()
    console.print(table)


def _as_options(message: str) -> str:
    """A message of the library with its arguments as they are given here: member= as --member."""

    def option(match: re.Match[str]) -> str:
        value = match[2] or ""
        return f"--{match[1]} {json.dumps(value) if ' ' in value else value}".rstrip()

    return re.sub(r"\b(train|test|time|member|values|restart)=(?:'([^']*)')?", option, message)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar that vanishes when done; nothing where standard error is not a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar
