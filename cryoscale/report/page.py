"""One page for a run: a single HTML file that loads nothing, works without a network, and can be mailed.

page = headline numbers + gallery + one article per tomogram + what failed + how it was made

`render_page` is a pure function of a `ReportRun`. Pictures are inside as data; the policy in the page's head forbids
everything but the page's own script (`script`). Every text that is not ours goes through `text.clean`.
"""

from __future__ import annotations

from cryoscale.report.article import area_nm2, article, is_closed
from cryoscale.report.distributions import pooled_part
from cryoscale.report.run import ReportRun, TomogramReport, within_budget
from cryoscale.report.script import SCRIPT, policy
from cryoscale.report.style import STYLE
from cryoscale.report.tables import Cell, table, thumbnail
from cryoscale.report.text import amount, clean, duration, size_of

__all__ = ["render_page"]

_PICTURE_BYTES = 12_000_000
_MOST_ARTICLES = 50
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
        What to show. Pictures beyond about 16 MB are left out, the least missed first, and named where they are;
        beyond 50 tomograms only those with pictures get an article of their own.
    """
    tomograms = within_budget(run.tomograms, _PICTURE_BYTES)
    shown = [t for t in tomograms if t.pictures] if len(tomograms) > _MOST_ARTICLES else list(tomograms)
    body = [
        _header(run),
        "<main>",
        _tiles(run),
        _alert(run),
        _gallery(shown) if len(tomograms) > 1 else "",
        _overview(tomograms, {t.id for t in shown}) if len(tomograms) > 1 else "",
        pooled_part(tomograms),
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


def _tiles(run: ReportRun) -> str:
    rows = [row for tomogram in run.tomograms for row in tomogram.membranes]
    areas = [area_nm2(row) for row in rows]
    total = sum(areas)
    inferred = [(a, float(row["fraction_inferred"])) for a, row in zip(areas, rows, strict=True) if _known(row)]
    weight = sum(a for a, _ in inferred)
    tiles = [(str(len(run.tomograms)), "", "tomogram" if len(run.tomograms) == 1 else "tomograms")]
    tiles.append((str(len(rows)), "", "membrane" if len(rows) == 1 else "membranes"))
    if any("closed" in row for row in rows):
        tiles.append((str(sum(is_closed(row) for row in rows)), f"of {len(rows)}", "closed surfaces"))
    if total:
        area, unit = (total / 1e6, "µm²") if total >= 1e4 else (total, "nm²")
        tiles.append((amount(area), unit, "membrane area"))
    if weight:
        tiles.append((amount(100 * sum(a * f for a, f in inferred) / weight, 2), "%", "of the area inferred, not seen"))
    proteins = [t.protein_count for t in run.tomograms if t.protein_count is not None]
    if proteins:
        tiles.append((str(sum(proteins)), "", "proteins"))
    if run.failures:
        tiles.append((str(len(run.failures)), "", "failed"))
    cells = "".join(
        f'<div class="tile"><b>{value}{f"<small>{unit}</small>" if unit else ""}</b><span>{words}</span></div>'
        for value, unit, words in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _known(row: object) -> bool:
    try:
        return 0 <= float(row["fraction_inferred"]) <= 1  # type: ignore[index]
    except (KeyError, ValueError):
        return False


def _alert(run: ReportRun) -> str:
    if not run.failures:
        return ""
    total = len(run.failures) + len(run.tomograms)
    words = f"{len(run.failures)} of {total} tomograms failed"
    return f'<p class="alert">{words}: <a href="#problems">which, and why</a>.</p>'


def _gallery(shown: list[TomogramReport]) -> str:
    cards = []
    for tomogram in shown:
        closed = sum(is_closed(row) for row in tomogram.membranes)
        words = f"{len(tomogram.membranes)} membranes, {closed} closed"
        cards.append(
            f'<a href="#t-{clean(tomogram.id)}">{thumbnail(tomogram)}<b>{clean(tomogram.id)}</b>'
            f'<span class="soft small">{words}</span></a>'
        )
    return f'<section><h2>Gallery</h2><div class="gallery">{"".join(cards)}</div></section>' if cards else ""


def _overview(tomograms: tuple[TomogramReport, ...], with_article: set[str]) -> str:
    rows = []
    for tomogram in tomograms:
        areas = sum(area_nm2(row) for row in tomogram.membranes)
        name = clean(tomogram.id)
        seconds = sum(tomogram.stage_seconds.values())
        peak, proteins = tomogram.peak_bytes, tomogram.protein_count
        rows.append(
            [
                Cell(f'<a href="#t-{name}">{name}</a>' if tomogram.id in with_article else name),
                Cell(str(len(tomogram.membranes)), True),
                Cell(str(sum(is_closed(row) for row in tomogram.membranes)), True),
                Cell(amount(areas / 1e6), True),
                Cell("–" if proteins is None else str(proteins), True),
                Cell(duration(seconds) if tomogram.stage_seconds else "–", True, seconds or None),
                Cell(size_of(peak) if peak else "–", True, peak or None),
                Cell(str(len(tomogram.warnings) or "–"), True),
            ]
        )
    heads = [("tomogram", "", False), ("membranes", "", True), ("closed", "", True), ("area", "µm²", True)]
    heads += [(name, "", True) for name in ("proteins", "time", "peak memory", "warnings")]
    return f"<section><h2>All tomograms</h2>{table(heads, rows, name='tomograms')}</section>"


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
