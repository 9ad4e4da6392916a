r"""Protocol study: the trained student of Sec. 4.3.2 and App. D against all printed values, and what its choices hide.

First the preset ``published`` against the 90 legend values of trained students (the nine of Fig. 15 are of fixed
attention: see fig15), with the published kind of runs.  Then the same with one choice of the paper undone after the
other; :mod:`grokphase.experiments._protocol_table` says which.  Last the paper's statements, each a set
of comparisons of numbers with a stated test, in every reading (:mod:`grokphase.experiments._statements`).

A number agrees with a printed one within 4.5 standard errors of both, that of the printed one estimated from our spread
and the published number of runs.  Nothing that is said in words is written here beforehand: it follows the numbers.

References: Žunkovič & Ilievski 2024, Sec. 4.3.2, App. D, Figs. 19, 20, 23 to 27.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from grokphase._checks import FloatArray
from grokphase.experiments import _protocol_table as table
from grokphase.experiments._aligned import Estimate
from grokphase.experiments._ensembles import REGULARISATIONS, bonds_of
from grokphase.experiments._framework import (
    STANDARD_ERRORS,
    Comparison,
    Experiment,
    Progress,
    Scale,
)
from grokphase.experiments._legends import legends
from grokphase.experiments._protocol_figure import draw
from grokphase.experiments._protocol_matches import SYMBOLS, ladder, matches
from grokphase.experiments._statements import STATEMENTS, UNDECIDED, fate, judge_all, sentence

__all__ = ["EXPERIMENT"]


def compute(
    scale: Scale,
    rng: np.random.Generator,
    progress: Progress,
    runs: Mapping[str, xr.Dataset],
    members: int = 0,
    reaches: str = "",
    bonds: str = "",
) -> xr.Dataset:
    """The table, with the printed values beside ours."""
    found = table.fill(runs, table.reaches_of(scale, reaches), bonds_of(scale, bonds), rng, progress)
    own = [name for name in found if "reading" not in found[name].dims]
    return table.with_printed(found).assign({name: found[name] for name in own})


# --- what the choices hide ---


def _on_choices(data: xr.Dataset) -> list[Comparison]:
    """Each quantity of each ensemble in all readings: is it the same whatever the choices?"""
    rows: list[Comparison] = []
    if table.VARIANT_REACH not in data["reach"].values:
        return rows
    for statistic in ("t_eps_cut", "t_G_cut", "nu"):
        for penalty in REGULARISATIONS:
            for bond in data["bond"].values.tolist():
                found = ladder(data, statistic, penalty, bond)
                quantity = statistic.removesuffix("_cut")
                printed = legends().get((quantity, table.VARIANT_REACH, penalty, bond))
                if "published" in found and len(found) > 1:
                    name = f"{SYMBOLS[quantity]}, K=1, {penalty}, d={bond}"
                    rows.append(_on_choice(name, quantity, printed.printed if printed else "not given", found))
    return rows


def _on_choice(name: str, quantity: str, printed: str, found: Mapping[str, Estimate]) -> Comparison:
    own = found["published"]
    away = [
        reading
        for reading, other in found.items()
        if abs(other.value - own.value) > STANDARD_ERRORS * np.hypot(own.stderr, other.stderr)
    ]
    where = "; ".join(table.READINGS[reading] for reading in away)
    cut = f"; times are cut at {table.HORIZON[quantity]:g} in all readings" if quantity in table.HORIZON else ""
    return Comparison(
        f"do the choices matter? {name}",
        printed,
        "; ".join(f"{table.READINGS[reading]}: {other.value:.3g}" for reading, other in found.items()),
        "s.e. " + ", ".join(f"{other.stderr:.2g}" for other in found.values()),
        not away,
        (f"not as with the published kind of runs: {where}" if away else "no reading differs from the published kind")
        + cut,
    )


def _on_exponents(data: xr.Dataset) -> list[Comparison]:
    """The printed recipe against a fit that may refuse."""
    rows = []
    for reach in data["reach"].values.tolist():
        here = data.sel(reach=reach)
        outcomes = here["exponent_outcome"].to_numpy().ravel().astype(str)
        accepted = outcomes == table.ACCEPTED
        reasons = Counter(_short(text) for text in outcomes[~accepted])
        ours = here["value"].sel(statistic="nu", reading="printed").to_numpy().ravel()
        low, high = (here[f"exponent_{end}"].to_numpy().ravel() for end in ("low", "high"))
        inside = accepted & (low <= ours) & (ours <= high)
        names = [f"{penalty}, d={bond}" for penalty in here["regularisation"].values for bond in here["bond"].values]
        fits = here["exponent"].to_numpy().ravel()
        shown = [
            f"{name}: {fit:.2g} ({a:.2g} to {b:.2g})"
            for name, fit, a, b, yes in zip(names, fits, low, high, accepted, strict=True)
            if yes
        ]
        rows.append(
            Comparison(
                f"ν as a limit at the transition, K={reach}",
                f"{outcomes.size} values",
                "; ".join(shown) or "not measurable",
                f"95 % intervals; the fit refuses {int((~accepted).sum())} of {outcomes.size} ensembles",
                bool(inside.all()),
                "the printed ν is a slope a few epochs before t_ε; a fit with a correction and an interval "
                + (
                    f"refuses: {'; '.join(f'{number} × {text}' for text, number in reasons.items())}"
                    if reasons
                    else f"holds the printed value in {int(inside.sum())} of {outcomes.size} intervals"
                ),
            )
        )
    return rows


def _short(refusal: str) -> str:
    """The part of a refusal that does not depend on the numbers of one ensemble."""
    return refusal.split(":")[0].split(",")[0]


# --- statements ---


def _on_statements(data: xr.Dataset) -> list[Comparison]:
    rows = []
    for statement in STATEMENTS:
        counts = judge_all(data, statement)
        if "published" not in counts:
            continue
        others = {name: each for name, each in counts.items() if name not in ("printed", "published")}
        elsewhere = "; ".join(f"{table.READINGS[name]}: {each}" for name, each in others.items())
        outcome = fate(counts)
        if outcome == UNDECIDED:
            continue
        rows.append(
            Comparison(
                f"{statement.text} ({statement.where})",
                f"printed numbers: {counts['printed']}" if "printed" in counts else "stated",
                f"ours: {counts['published']}" + (f"; {elsewhere}" if elsewhere else ""),
                "comparisons decided at 3 s.e.",
                outcome in ("survives", "holds as published, open elsewhere"),
                f"{outcome}: number of comparisons in which it holds, by reading",
            )
        )
    return rows


def compare(data: xr.Dataset) -> Sequence[Comparison]:
    """Printed values, what the choices hide, exponents, statements."""
    rows = [match.row for match in matches(data)]
    return [*rows, *_on_choices(data), *_on_exponents(data), *_on_statements(data)]


# --- the page of plain words ---


def findings(data: xr.Dataset) -> Sequence[str]:
    """What the numbers say, in sentences."""
    return [*_on_printed(data), *_on_readings(data), *_on_limits(data), *_on_fate(data)]


def _on_printed(data: xr.Dataset) -> list[str]:
    found = matches(data)
    if not found:
        return []
    parts = []
    for quantity, symbol in SYMBOLS.items():
        those = [match for match in found if match.quantity == quantity]
        off = [match for match in those if not match.row.agrees]
        larger = sum(match.printed.value > match.ours.value for match in off)
        known = sum(match.row.erratum for match in off)
        words = f"{len(those) - len(off)} of {len(those)} for {symbol}"
        if off:
            words += f" (of the others {larger} are printed larger than ours"
            words += f", {known} of them larger than the mean of their own histogram)" if known else ")"
        parts += [words] if those else []
    agreeing = sum(match.row.agrees for match in found)
    return [
        f"Of the {len(legends())} values the paper prints for trained students, {len(found)} are compared here and "
        f"{agreeing} agree within {STANDARD_ERRORS:g} standard errors: {', '.join(parts)}. (The nine values of Fig. 15 "
        "belong to fixed attention: see fig15.)"
    ]


_SHARES = {
    "never": "never reach zero test error",
    "not_delayed": "have t_G ≤ 0",
    "wrong": "are wrong everywhere where their error counts as zero",
}


def _on_readings(data: xr.Dataset) -> list[str]:
    """What kind of runs there are, and how long they take, in every reading that holds all of them."""
    said = []
    for reading in ("all", "error", "fixed", "all-inputs"):
        here = data["value"].sel(reading=reading)
        parts = []
        for penalty in REGULARISATIONS:
            values = {name: here.sel(statistic=name, regularisation=penalty).to_numpy() for name in table.STATISTICS}
            words = [
                f"{_range(values[name], '%')} {text}"
                for name, text in _SHARES.items()
                if _some(values[name]) and (name != "wrong" or np.nanmax(values[name]) > 0)
            ]
            words += [
                f"mean min({SYMBOLS[name]}, {end:g}) is {_range(values[f'{name}_cut'])}"
                for name, end in table.HORIZON.items()
                if _some(values[f"{name}_cut"])
            ]
            who = "without penalty" if penalty == "none" else f"with {penalty}"
            parts += [f"{who} {', '.join(words)}"] if words else []
        if parts:
            said.append(f"{table.READINGS[reading].capitalize()}: {'; '.join(parts)}.")
    return said


def _some(values: FloatArray) -> bool:
    return bool(np.isfinite(values).any())


def _range(values: FloatArray, unit: str = "") -> str:
    """The finite numbers as one or a range, in percent if that is the unit."""
    finite = values[np.isfinite(values)] * (100 if unit else 1)
    ends = [f"{end:.0f}" if unit else f"{end:.2f}" for end in (finite.min(), finite.max())]
    return " to ".join(dict.fromkeys(ends)) + (f" {unit}" if unit else "")


def _on_limits(data: xr.Dataset) -> list[str]:
    outcomes = data["exponent_outcome"].to_numpy().ravel().astype(str)
    refused = Counter(_short(text) for text in outcomes[outcomes != table.ACCEPTED])
    words = "; ".join(f"{number} × {text}" for text, number in refused.most_common())
    return [
        f"As a limit at the transition, ν is measurable in {outcomes.size - refused.total()} of {outcomes.size} "
        "ensembles"
        + (f"; elsewhere the fit refuses ({words})" if words else "")
        + ". The printed ν is the slope of the mean error over a few epochs before t_ε."
    ]


def _on_fate(data: xr.Dataset) -> list[str]:
    found = [(statement, judge_all(data, statement)) for statement in STATEMENTS]
    return [sentence(statement, counts) for statement, counts in found if "published" in counts]


EXPERIMENT = Experiment(
    name="protocol",
    title="What the protocol of the trained student hides",
    summary=(
        "All printed values of trained students beside ours (above), the same times and shares as one choice of the "
        "paper after the other is undone (middle), and in which readings the paper's statements hold (below: "
        "comparisons in which a statement holds, of all that were made)."
    ),
    compute=compute,
    draw=draw,
    compare=compare,
    options={"members": 0, "reaches": "", "bonds": ""},
    ensembles=table.ensembles,
    findings=findings,
)
