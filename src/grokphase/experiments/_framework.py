"""What an experiment is: a figure or table of the paper, computed, drawn and compared with the published values.

An experiment has two halves. *Compute* turns a scale and a seed into one ``xarray.Dataset`` (all numbers, with
units); *draw* and *compare* only read it. Published values come from ``reference/`` through :func:`published_curves`
and never enter a computation unless the experiment says so (a training set that was read off a figure). What takes
long, ensembles of trained students, an experiment only names (``ensembles``): they are simulated before *compute*,
kept, and shared with other experiments that name an equal one.

Conventions: a simulated number agrees within 4.5 of its standard errors (false-alarm rate 7e-6, so one report in a
thousand shows a false one), a number read off a drawn line within 1e-4 of the range of either axis.
"""

import csv
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from grokphase._checks import FloatArray, choice, integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from grokphase.training import Scenario

__all__ = [
    "SCALES",
    "STANDARD_ERRORS",
    "Comparison",
    "Curve",
    "Ensemble",
    "Experiment",
    "Progress",
    "Scale",
    "compare_curve",
    "compare_number",
    "compare_simulation",
    "generator_for",
    "line_reading_error",
    "number_of_draws",
    "published_curves",
    "published_rows",
    "variable",
]

Scale = Literal["quick", "paper"]
SCALES: tuple[Scale, ...] = ("quick", "paper")
Curve = tuple[FloatArray, FloatArray]
Progress = Callable[[float], None]
"""Called with the fraction of the work done, 0 to 1."""

STANDARD_ERRORS = 4.5  # two-sided false-alarm rate 7e-6
_READING = 1e-4  # of the range of an axis


@dataclass(frozen=True)
class Comparison:
    """One line of the report: what the paper shows, what we find, how sure we are, and whether the two agree."""

    quantity: str
    published: str
    computed: str
    uncertainty: str
    agrees: bool
    why: str
    """Why the two should agree, or why they do not."""

    erratum: bool = False
    """The difference is explained by an error of the paper (and ``why`` names it)."""

    @property
    def verdict(self) -> str:
        """``agrees``, ``erratum`` or ``differs``."""
        if self.agrees:
            return "agrees"
        return "erratum" if self.erratum else "differs"


@dataclass(frozen=True)
class Ensemble:
    """Runs that an experiment measures: a scenario, and the times at which parameters and contexts are kept."""

    scenario: "Scenario"
    snapshots: tuple[float | str, ...] = ()
    """As for :func:`grokphase.simulate`."""


@dataclass(frozen=True)
class Experiment:
    """A figure or table of the paper and how to make it."""

    name: str
    title: str
    summary: str
    """What the reader should see, in plain words; shown in the report."""

    compute: Callable[..., xr.Dataset]
    """``compute(scale, rng, progress, **options)``, with ``runs`` before the options if there are ``ensembles``."""

    draw: Callable[[xr.Dataset], "Figure"]
    compare: Callable[[xr.Dataset], Sequence[Comparison]]
    draw_published: Callable[[], "Figure"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``compute`` that a user may set, with their defaults.

    ``draws``, where there is one, is the number of random draws behind each simulated number; 0 leaves it to the scale.
    """

    ensembles: Callable[..., Mapping[str, Ensemble]] | None = None
    """``ensembles(scale, seed, **options)``: what is simulated, or taken up from an earlier run, before ``compute``.

    ``compute(scale, rng, progress, runs, **options)`` gets the trajectories as ``runs``, a mapping from the same names
    to datasets as :func:`grokphase.simulate` returns them, whose numbers are read from disk when they are used.
    """

    findings: Callable[[xr.Dataset], Sequence[str]] | None = None
    """What the numbers say, in sentences that follow from them; shown below the pictures."""


def generator_for(name: str, seed: int) -> np.random.Generator:
    """The experiment's own generator: independent of which other experiments run, and in what order."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def number_of_draws(scale: Scale, draws: int, by_scale: Mapping[Scale, int]) -> int:
    """The option ``draws``, or what the scale says where it is 0."""
    choice("scale", scale, SCALES)
    return integer("draws", draws) or by_scale[scale]


def variable(
    dims: str | Sequence[str], values: ArrayLike, long_name: str, symbol: str = "", units: str = "1"
) -> tuple[Any, NDArray[Any], dict[str, str]]:
    """A dataset variable that explains itself."""
    return dims, np.asarray(values), {"long_name": long_name, "symbol": symbol, "units": units}


def published_rows(name: str) -> list[dict[str, str]]:
    """The rows of ``reference/<name>.csv``: values read off the paper's figures (CC-BY 4.0)."""
    text = resources.files("grokphase.experiments").joinpath("reference", f"{name}.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def published_curves(name: str) -> dict[str, dict[str, Curve]]:
    """Published curves by panel and series, each as (x, y)."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in published_rows(name):
        series = points.setdefault(row["panel"], {}).setdefault(row["series"], [])
        series.append((float(row["x"]), float(row["y"])))
    return {
        panel: {key: (np.array(xy)[:, 0], np.array(xy)[:, 1]) for key, xy in group.items()}
        for panel, group in points.items()
    }


def line_reading_error(panel: Mapping[str, Curve], x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Error of points (x, y) read off a line of a drawn panel: both axes count, the abscissa by the line's slope."""
    widths, heights = zip(*((np.ptp(curve[0]), np.ptp(curve[1])) for curve in panel.values()), strict=True)
    slope = np.abs(np.gradient(np.asarray(y, float), np.asarray(x, float)))
    return np.asarray(_READING * (max(heights) + slope * max(widths)))


def compare_number(
    quantity: str,
    published: float,
    computed: float,
    *,
    reading_error: float = 0.0,
    stderr: float = 0.0,
    why: str,
    erratum: bool = False,
) -> Comparison:
    """One number, within the error of its reading and our standard error."""
    parts = [f"reading {reading_error:.2g}"] if reading_error else []
    parts += [f"s.e. {stderr:.2g}"] if stderr else []
    return Comparison(
        quantity,
        f"{published:.4g}",
        f"{computed:.4g}",
        ", ".join(parts) or "exact",
        bool(abs(published - computed) <= reading_error + STANDARD_ERRORS * stderr),
        why,
        erratum,
    )


def compare_simulation(quantity: str, exact: float, simulated: float, *, stderr: float, why: str) -> Comparison:
    """A quantity the paper does not print: our theory against our simulation."""
    return Comparison(
        quantity,
        "not given",
        f"{exact:.4g} exact, {simulated:.4g} simulated",
        f"s.e. {stderr:.2g}",
        bool(abs(exact - simulated) <= STANDARD_ERRORS * stderr),
        why,
    )


def compare_curve(
    quantity: str,
    published: ArrayLike,
    computed: ArrayLike,
    *,
    reading_error: ArrayLike,
    stderr: ArrayLike = 0.0,
    x: ArrayLike | None = None,
    why: str,
    erratum: bool = False,
) -> Comparison:
    """A whole curve, at the published abscissae ``x``: every point must agree within its own error."""
    published, computed = np.asarray(published), np.asarray(computed)
    difference = np.abs(published - computed)
    allowed = np.asarray(reading_error) + STANDARD_ERRORS * np.asarray(stderr)
    allowed = np.broadcast_to(allowed, difference.shape)
    worst = int(np.argmax(difference / np.maximum(allowed, np.finfo(float).tiny)))
    place = "" if x is None else f" at {np.asarray(x)[worst]:.3g}"
    return Comparison(
        quantity,
        f"curve of {published.size} points",
        f"worst point differs by {difference[worst]:.2g}{place}, where we have {computed[worst]:.4g}",
        f"{allowed[worst]:.2g} there; {np.mean(difference <= allowed):.0%} of points inside",
        bool((difference <= allowed).all()),
        why,
        erratum,
    )
