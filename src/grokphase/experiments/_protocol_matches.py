"""Printed values beside ours, and one quantity in all readings, out of the table of the protocol study.

The standard error of a printed value is not given: it is estimated from our spread and the published number of runs.

References: Žunkovič & Ilievski 2024, Figs. 19, 20, 23 to 27.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from grokphase.experiments._aligned import Estimate
from grokphase.experiments._ensembles import BONDS
from grokphase.experiments._framework import Comparison, compare_number
from grokphase.experiments._legends import Legend, figure_of, legends, published_count
from grokphase.experiments._protocol_table import VARIANT_REACH
from grokphase.experiments._published_times import compare_mean

__all__ = ["SYMBOLS", "Match", "ladder", "matches"]

SYMBOLS = {"t_eps": "t_ε", "t_G": "t_G", "nu": "ν", "dimension": "smallest D_eff"}


class Match(NamedTuple):
    """A printed value beside ours."""

    quantity: str
    reach: int
    regularisation: str
    bond: int | None
    printed: Legend
    ours: Estimate
    """With the standard error of both."""

    histogram: Estimate | None
    """Mean of the published histogram of a time."""

    runs: int
    published: int

    @property
    def name(self) -> str:
        """For people."""
        bond = "mean over d" if self.bond is None else f"d={self.bond}"
        return f"{SYMBOLS[self.quantity]}, K={self.reach}, {self.regularisation}, {bond}"

    @property
    def row(self) -> Comparison:
        """As a line of the report."""
        who = f"{self.runs} of our runs are of the published kind, {self.published} were published"
        if self.histogram is not None:
            return compare_mean(self.name, self.printed, self.ours, self.histogram, who)
        return compare_number(
            self.name,
            self.printed.value,
            self.ours.value,
            reading_error=self.printed.error,
            stderr=self.ours.stderr,
            why=f"printed in {figure_of(self.quantity, self.reach)} as {self.printed.printed}; {who} (the standard "
            "error is that of both)",
        )


def matches(data: xr.Dataset) -> list[Match]:
    """All printed values of trained students for which there is one of ours, in the order of the figures."""
    found = []
    for (quantity, reach, penalty, bond), printed in legends().items():
        if reach not in data["reach"].values:
            continue
        wanted = BONDS if bond is None else (bond,)
        if set(wanted) - set(data["bond"].values.tolist()):
            continue
        here = data.sel(reading="published", reach=reach, regularisation=penalty, bond=list(wanted))
        value, stderr, count = (here[name].sel(statistic=quantity).to_numpy() for name in ("value", "stderr", "count"))
        if not np.isfinite(stderr).all():
            continue
        published = np.array([published_count(quantity, reach, penalty, each) for each in wanted])
        both = float(np.sqrt(np.sum(stderr**2 * (1 + count / published))) / value.size)
        histogram = None
        if f"{quantity}_implied" in data["statistic"].values:
            implied = here.sel(statistic=f"{quantity}_implied", bond=bond)
            histogram = Estimate(float(implied["value"]), float(implied["stderr"]))
        found.append(
            Match(
                *(quantity, reach, penalty, bond, printed),
                *(Estimate(float(value.mean()), both), histogram, int(count.sum()), int(published.sum())),
            )
        )
    return found


def ladder(data: xr.Dataset, statistic: str, penalty: str, bond: int) -> dict[str, Estimate]:
    """Our estimates in every reading that has one, for the reach of the variants."""
    at = data.sel(statistic=statistic, reach=VARIANT_REACH, regularisation=penalty, bond=bond)
    rows = zip(at["reading"].values.tolist(), at["value"].values.tolist(), at["stderr"].values.tolist(), strict=True)
    return {
        reading: Estimate(value, stderr)
        for reading, value, stderr in rows
        if np.isfinite(stderr) and reading != "printed"
    }
