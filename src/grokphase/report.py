"""The report of a reproduction: one HTML file with every figure, beside it what the paper shows, and all comparisons.

The file needs nothing else: pictures are embedded as SVG, the style sheet is inside.  It is written in one piece, so
a report that exists is whole.
"""

import base64
import html
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grokphase.experiments import Comparison, Experiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Section", "render", "svg_of", "write_whole"]

_VERDICTS = {
    "agrees": ("agrees", "within the stated uncertainty"),
    "erratum": ("paper corrected", "they differ, and an error of the paper explains it"),
    "differs": ("differs", "they differ, and the table says what is known about why"),
}

_STYLE = """
:root { --ink: #1c2024; --soft: #5b646d; --line: #d9dee3; --paper: #ffffff; --band: #f5f7f9;
  --agrees: #00704d; --erratum: #8a5a00; --differs: #a8321c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb7; --line: #3a424a; --paper: #16191c;
  --band: #1f2428; --agrees: #4cc9a0; --erratum: #e5b25d; --differs: #f08a73; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; } h2 { font-size: 1.35rem; margin: 3rem 0 .4rem; }
p { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: 1rem 0; }
figure img { max-width: min(100%, 36rem); height: auto; background: #ffffff; border-radius: 4px; }
.pair { display: flex; flex-wrap: wrap; align-items: end; gap: 0 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .7rem .45rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.why { min-width: 16rem; }
.verdict { font-weight: 600; white-space: nowrap; } .agrees { color: var(--agrees); }
.erratum { color: var(--erratum); } .differs { color: var(--differs); }
.findings { max-width: 46rem; padding-left: 1.2rem; } .findings li { margin: .4rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: 1rem 0; } a { color: inherit; }
.counts { display: flex; flex-wrap: wrap; gap: 1.5rem; margin: 1.2rem 0; padding: 0; list-style: none; }
.counts strong { font-size: 1.6rem; display: block; line-height: 1.1; }
"""


@dataclass(frozen=True)
class Section:
    """One experiment of the report: its texts, pictures (as SVG) and comparisons."""

    experiment: Experiment
    picture: bytes
    published_picture: bytes | None
    comparisons: Sequence[Comparison]
    seconds: float
    """Time the computation took (zero if an earlier result was used)."""

    findings: Sequence[str] = ()
    """What the numbers say, in sentences."""


def svg_of(figure: "Figure") -> bytes:
    """A figure as SVG without a date, so that equal pictures are equal files."""
    from grokphase.experiments._style import style

    buffer = io.BytesIO()
    with style():  # text is laid out here, not when the figure was put together
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one piece: an interruption leaves the old file or none, never a part."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def render(sections: Sequence[Section], *, scale: str, seed: int, version: str) -> str:
    """The whole report as HTML.

    Parameters
    ----------
    sections
        In the order of the paper.
    scale, seed, version
        How the numbers were made; shown, so that they can be made again.
    """
    counts = Counter(row.verdict for section in sections for row in section.comparisons)
    links = "".join(
        f'<a href="#{section.experiment.name}">{html.escape(section.experiment.title)}</a>' for section in sections
    )
    tiles = "".join(
        f'<li><strong class="{verdict}">{counts[verdict]}</strong>{label}<br><span class="soft">{meaning}</span></li>'
        for verdict, (label, meaning) in _VERDICTS.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Grokking as a phase transition: published and computed</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>Grokking as a phase transition: published and computed</h1>
<p>A model <em>groks</em> when it generalises long after it has learned its training data by heart. Žunkovič and
Ilievski (<em>Journal of Machine Learning Research</em> 25, 2024) found models in which this is a phase transition that
can be solved exactly. This report computes their figures anew and sets each number beside the published one.</p>
<ul class="counts">{tiles}</ul>
<nav>{links}</nav>
<p class="soft">Made with grokphase {html.escape(version)} by the command
<code>grokphase reproduce --scale {html.escape(scale)} --seed {seed}</code>, which gives the same numbers again.
Published values were read off the paper's figures (CC-BY 4.0). A number agrees if it lies within the reading error plus
4.5 standard errors of ours (one false alarm in 150 000).</p>
{"".join(_section(section) for section in sections)}
</main>
</body>
</html>
"""


def _section(section: Section) -> str:
    experiment = section.experiment
    pictures = _picture(section.picture, f"{experiment.title}, computed", "Computed")
    if section.published_picture is not None:
        pictures += _picture(
            section.published_picture, f"{experiment.title}, as published", "Published, drawn from the values read off"
        )
    rows = "".join(_row(row) for row in section.comparisons)
    said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in section.findings)
    time = f"computed in {section.seconds:.1f} s" if section.seconds else "computed earlier"
    return f"""<section id="{experiment.name}">
<h2>{html.escape(experiment.title)} <span class="soft">({experiment.name}, {time})</span></h2>
<p>{html.escape(experiment.summary)}</p>
<div class="pair">{pictures}</div>
{f'<ul class="findings">{said}</ul>' if said else ""}
<div class="wide"><table>
<thead><tr><th>Quantity</th><th>Published</th><th>Computed</th><th>Uncertainty</th><th>Verdict</th><th>Why</th></tr></thead>
<tbody>{rows}</tbody>
</table></div>
</section>
"""


def _picture(svg: bytes, alternative: str, caption: str) -> str:
    source = base64.b64encode(svg).decode("ascii")
    return (
        f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{html.escape(alternative)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _row(row: Comparison) -> str:
    cells = "".join(
        f"<td>{html.escape(text)}</td>" for text in (row.quantity, row.published, row.computed, row.uncertainty)
    )
    label, _ = _VERDICTS[row.verdict]
    return f'<tr>{cells}<td class="verdict {row.verdict}">{label}</td><td class="why">{html.escape(row.why)}</td></tr>'
