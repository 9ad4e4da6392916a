"""What an experiment is: a figure or table of the paper, computed, drawn and compared with the published values.

An experiment has two halves. *Compute* turns a scale and a seed into one ``xarray.Dataset`` (all numbers, with
units); *draw* and *compare* only read it. Published values come from ``reference/`` through :func:`published_curves`
and never enter a computation unless the experiment says so (a training set that was read off a figure).
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "SCALES",
    "Comparison",
    "Curve",
    "Experiment",
    "Progress",
    "Scale",
    "compare_curve",
    "compare_number",
    "compare_simulation",
    "generator_for",
    "published_curves",
    "published_rows",
    "variable",
]

Scale = Literal["quick", "paper"]
SCALES: tuple[Scale, ...] = ("quick", "paper")
Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
Progress = Callable[[float], None]
"""Called with the fraction of the work done, 0 to 1."""


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
class Experiment:
    """A figure or table of the paper and how to make it."""

    name: str
    title: str
    summary: str
    """What the reader should see, in plain words; shown in the report."""

    compute: Callable[..., xr.Dataset]
    """``compute(scale, rng, progress, **options)``."""

    draw: Callable[[xr.Dataset], "Figure"]
    compare: Callable[[xr.Dataset], Sequence[Comparison]]
    draw_published: Callable[[], "Figure"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``compute`` that a user may set, with their defaults."""


def generator_for(name: str, seed: int) -> np.random.Generator:
    """The experiment's own generator: independent of which other experiments run, and in what order."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


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
    """Agreement within the error of the reading plus four standard errors of ours (false-alarm rate 6e-5)."""
    parts = [f"reading {reading_error:.2g}"] if reading_error else []
    parts += [f"s.e. {stderr:.2g}"] if stderr else []
    return Comparison(
        quantity,
        f"{published:.5g}",
        f"{computed:.5g}",
        ", ".join(parts) or "exact",
        bool(abs(published - computed) <= reading_error + 4 * stderr),
        why,
        erratum,
    )


def compare_simulation(quantity: str, exact: float, simulated: float, *, stderr: float, why: str) -> Comparison:
    """A quantity the paper does not print: our theory against our simulation, within four standard errors."""
    return Comparison(
        quantity,
        "not given",
        f"{exact:.5g} exact, {simulated:.5g} simulated",
        f"s.e. {stderr:.2g}",
        bool(abs(exact - simulated) <= 4 * stderr),
        why,
    )


def compare_curve(
    quantity: str,
    published: ArrayLike,
    computed: ArrayLike,
    *,
    reading_error: ArrayLike,
    stderr: ArrayLike = 0.0,
    why: str,
    erratum: bool = False,
) -> Comparison:
    """A whole curve, at the published abscissae: every point must agree within its error (4 s.e. if ours has one)."""
    published, computed = np.asarray(published), np.asarray(computed)
    difference = np.abs(published - computed)
    allowed = np.broadcast_to(np.asarray(reading_error) + 4 * np.asarray(stderr), difference.shape)
    inside = difference <= allowed
    worst = int(np.argmax(difference))
    return Comparison(
        quantity,
        f"curve of {published.size} points",
        f"largest difference {difference[worst]:.2g} at value {computed[worst]:.3g}; {inside.mean():.0%} inside",
        f"error there {allowed[worst]:.2g}",
        bool(inside.all()),
        why,
        erratum,
    )
