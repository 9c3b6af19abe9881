"""One page for a run: a single HTML file that loads nothing, works without a network, and can be mailed.

page = headline numbers + gallery + one article per tomogram + what failed + how it was made

`render_page` is a pure function of a `ReportRun`. Pictures are inside as data; the policy in the page's head forbids
everything but the page's own script (`script`). Every text that is not ours goes through `text.clean`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryoscale.report.article import article
from cryoscale.report.distributions import pooled_part
from cryoscale.report.run import MOST_ARTICLES, ReportRun, TomogramReport, within_budget
from cryoscale.report.script import SCRIPT, policy
from cryoscale.report.style import STYLE
from cryoscale.report.tables import Cell, table, thumbnail
from cryoscale.report.text import amount, clean, duration, size_of
from cryoscale.report.totals import Gathered, Line, gathered, has_surface, is_closed

__all__ = ["render_page"]

_PICTURE_BYTES = 12_000_000
_LEAST_PICTURE_BYTES = 2_000_000
"""Left for pictures however much else there is."""
_PAGE_BYTES = 19_500_000
_FEW, _MOST_ROWS, _FEWER_ROWS = 8, 500, 60
"""Membranes listed of each tomogram, where there are few tomograms and where there are more."""

_CITATIONS = (
    "L. Zhou, C. Yang, W. Gao, T. Perciano, K. M. Davies, N. K. Sauter. A machine learning pipeline for membrane "
    "segmentation of cryo-electron tomograms. <i>Journal of Computational Science</i> 66 (2023) 101904.",
    "O. Williams, A. Fitzgibbon. Gaussian process implicit surfaces. <i>Gaussian Processes in Practice</i> (2007).",
    "O. Ronneberger, P. Fischer, T. Brox. U-Net: convolutional networks for biomedical image segmentation. "
    "<i>MICCAI</i> (2015) 234–241.",
    "J. Moore et al. OME-Zarr: a cloud-optimized bioimaging file format with international community support. "
    "<i>Histochemistry and Cell Biology</i> 160 (2023) 223–251.",
    "C. R. Harris et al. Array programming with NumPy. <i>Nature</i> 585 (2020) 357–362.",
    "P. Virtanen et al. SciPy 1.0: fundamental algorithms for scientific computing in Python. <i>Nature Methods</i> 17 "
    "(2020) 261–272.",
    "S. van der Walt et al. scikit-image: image processing in Python. <i>PeerJ</i> 2 (2014) e453.",
    "M. Rocklin. Dask: parallel computation with blocked algorithms and task scheduling. <i>Proc. 14th Python in "
    "Science Conf.</i> (2015) 126–132.",
    "A. Paszke et al. PyTorch: an imperative style, high-performance deep learning library. <i>NeurIPS</i> 32 (2019).",
)


def render_page(run: ReportRun) -> str:
    """Return the page of a run as HTML.

    Parameters
    ----------
    run
        What to show. Pictures beyond about 16 MB, and those that would make the page larger than 20 MB, are left out,
        the least missed first, and named where they are; beyond 50 tomograms only the first with pictures get an
        article of their own.
    """
    every = run.every or gathered(run.tomograms)
    page = _page(run, every, _PICTURE_BYTES)
    excess = len(page.encode("utf-8", "replace")) - _PAGE_BYTES
    # A picture takes four thirds of its bytes.
    return page if excess <= 0 else _page(run, every, max(_LEAST_PICTURE_BYTES, _PICTURE_BYTES - excess * 3 // 4))


def _page(run: ReportRun, every: Gathered, picture_bytes: int) -> str:
    many = len(every.lines) > 1
    candidates = run.tomograms
    if len(every.lines) > MOST_ARTICLES:
        candidates = tuple(t for t in candidates if t.pictures)[:MOST_ARTICLES]
    overview = _overview(every, {t.id for t in candidates}) if many else ""
    shown = within_budget(candidates, picture_bytes)
    body = [
        _header(run),
        "<main>",
        _tiles(run, every),
        _alert(run, every),
        _gallery(shown, len(every.lines)) if many else "",
        overview,
        pooled_part(every),
        *(article(tomogram, most_rows=_MOST_ROWS if len(shown) <= _FEW else _FEWER_ROWS) for tomogram in shown),
        _problems(run),
        _methods(run),
        "</main>",
        f"<footer>Made by cryoscale {clean(run.version)}, {_moment(run.created_utc)}. "
        "This page is complete in itself: it loads nothing and sends nothing.</footer>",
        f"<script>{SCRIPT}</script>",
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(SCRIPT)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{clean(run.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    )
    return head + "\n".join(part for part in body if part) + "\n</body>\n</html>\n"


def _header(run: ReportRun) -> str:
    return (
        f'<header><p class="eyebrow">Membranes in cryo-electron tomograms</p><h1>{clean(run.title)}</h1>'
        f'<p class="soft">{_moment(run.created_utc)} · cryoscale {clean(run.version)}</p></header>'
    )


def _moment(text: str) -> str:
    """Write an ISO time as people do."""
    return clean(text.replace("T", " ").replace("+00:00", " UTC"))


def _tiles(run: ReportRun, every: Gathered) -> str:
    lines, count = every.lines, sum(line.membranes for line in every.lines)
    total, known = sum(line.area_nm2 for line in lines), sum(line.known_area_nm2 for line in lines)
    closed = [line.closed for line in lines if line.closed is not None]
    tiles = [(str(len(lines)), "", "tomogram" if len(lines) == 1 else "tomograms")]
    tiles.append((str(count), "", "membrane" if count == 1 else "membranes"))
    if closed:
        tiles.append((str(sum(closed)), f"of {count}", "closed surfaces"))
    if total:
        area, unit = (total / 1e6, "µm²") if total >= 1e4 else (total, "nm²")
        tiles.append((amount(area), unit, "membrane area"))
    if known:
        share = sum(line.inferred_nm2 for line in lines) / known
        tiles.append((amount(100 * share, 2), "%", "of the area inferred, not seen"))
    proteins = [line.protein_count for line in lines if line.protein_count is not None]
    if proteins:
        tiles.append((str(sum(proteins)), "", "proteins"))
    if run.failures:
        tiles.append((str(len(run.failures)), "", "failed"))
    cells = "".join(
        f'<div class="tile"><b>{value}{f"<small>{unit}</small>" if unit else ""}</b><span>{words}</span></div>'
        for value, unit, words in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _alert(run: ReportRun, every: Gathered) -> str:
    if not run.failures:
        return ""
    total = len(run.failures) + len(every.lines)
    words = f"{len(run.failures)} of {total} tomograms failed"
    return f'<p class="alert">{words}: <a href="#problems">which, and why</a>.</p>'


def _gallery(shown: Sequence[TomogramReport], total: int) -> str:
    cards = []
    for tomogram in shown:
        closed = sum(is_closed(row) for row in tomogram.membranes)
        words = f"{sum(map(has_surface, tomogram.membranes))} membranes, {closed} closed"
        cards.append(
            f'<a href="#t-{clean(tomogram.id)}">{thumbnail(tomogram)}<b>{clean(tomogram.id)}</b>'
            f'<span class="soft small">{words}</span></a>'
        )
    few = f' <span class="soft small">the first {len(shown)} of {total}</span>' if len(shown) < total else ""
    return f'<section><h2>Gallery{few}</h2><div class="gallery">{"".join(cards)}</div></section>' if cards else ""


def _overview(every: Gathered, with_article: set[str]) -> str:
    rows = [_overview_row(line, f"#t-{line.id}" if line.id in with_article else line.page) for line in every.lines]
    heads = [("tomogram", "", False), ("membranes", "", True), ("closed", "", True), ("area", "µm²", True)]
    heads += [(name, "", True) for name in ("proteins", "time", "peak memory", "warnings")]
    return f"<section><h2>All tomograms</h2>{table(heads, rows, name='tomograms')}</section>"


def _overview_row(line: Line, link: str) -> list[Cell]:
    name, seconds, peak = clean(line.id), line.seconds, line.peak_bytes
    return [
        Cell(f'<a href="{clean(link)}">{name}</a>' if link else name),
        Cell(str(line.membranes), True),
        Cell(str(line.closed or 0), True),
        Cell(amount(line.area_nm2 / 1e6), True),
        Cell("–" if line.protein_count is None else str(line.protein_count), True),
        Cell("–" if seconds is None else duration(seconds), True, seconds or None),
        Cell(size_of(peak) if peak else "–", True, peak or None),
        Cell(str(line.warnings or "–"), True),
    ]


def _problems(run: ReportRun) -> str:
    if not run.failures and not run.skipped:
        return ""
    title = " and ".join(word for word, there in (("Failed", run.failures), ("Skipped", run.skipped)) if there)
    parts = [f'<section id="problems"><h2>{title.capitalize()}</h2>']
    if run.failures:
        rows = [[Cell(clean(a)), Cell(clean(b)), Cell(clean(c, longest=1000))] for a, b, c in run.failures]
        heads = [("tomogram", "", False), ("stage", "", False), ("why it failed", "", False)]
        parts.append(table(heads, rows, name="failures"))
        parts.append(
            '<p class="soft small">The others are not affected. Mend the cause and run the same command again: what is '
            "complete is not repeated.</p>"
        )
    if run.skipped:
        rows = [[Cell(clean(a)), Cell(clean(b, longest=1000))] for a, b in run.skipped]
        parts.append("<h3>Skipped</h3>" if run.failures else "")
        parts.append(table([("what", "", False), ("why", "", False)], rows))
    return "".join(parts) + "</section>"


def _methods(run: ReportRun) -> str:
    facts = "".join(f"<dt>{clean(name)}</dt><dd>{clean(value)}</dd>" for name, value in run.machine)
    cite = "".join(f"<li>{entry}</li>" for entry in _CITATIONS)
    parameters = clean(run.spec_toml, longest=100_000, lines=True)
    return (
        '<section id="methods"><h2>How this was made</h2>'
        f"<dl><dt>command</dt><dd>{clean(run.command, longest=2000)}</dd>"
        f"<dt>version</dt><dd>cryoscale {clean(run.version)}</dd>{facts}</dl>"
        + (f"<details><summary>All parameters (TOML)</summary><pre>{parameters}</pre></details>" if parameters else "")
        + '<p class="small">Standard deviations and everything marked as inferred come from the Gaussian process that '
        "each surface is fitted with. Inferred surface lies where no membrane voxel was segmented, above all where the "
        "missing wedge hides membranes at right angles to the beam.</p></section>"
        f'<section id="cite"><h2>How to cite</h2><p>The method, then the tools it stands on:</p>'
        f'<ul class="small">{cite}</ul></section>'
    )
