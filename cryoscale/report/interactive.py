"""Parts of the page that its script brings to life: slices to look through, surfaces to turn.

Everything is inside the page as data, and decoded when it comes into sight. Where scripts do not run, the slices stay
hidden and the surfaces are still pictures.
"""

from __future__ import annotations

import base64
import json

from cryoscale.report.colours import hex_of
from cryoscale.report.run import TomogramReport
from cryoscale.report.scene import Scene
from cryoscale.report.stacks import Stack
from cryoscale.report.tables import picture
from cryoscale.report.text import amount, clean

__all__ = ["slices_part", "viewer_part"]

_SEEN, _INFERRED = (0, 114, 178), (230, 159, 0)
_TALLEST = 0.62
"""Height of the viewer, at most, in widths."""


def slices_part(tomogram: TomogramReport) -> str:
    """Write a slider for each axis; nothing where there are no slices."""
    if not tomogram.stacks:
        return ""
    figures = "".join(_slices(stack, tomogram.id) for stack in tomogram.stacks)
    box = '<label><input type="checkbox" class="over" checked> membranes</label>'
    return (
        f'<div class="looking" hidden><h3>Slice by slice <span class="soft small">{box}</span></h3>'
        f'<div class="three">{figures}</div></div>'
    )


def _slices(stack: Stack, name: str) -> str:
    third = "zyx".replace(stack.name[0], "").replace(stack.name[1], "")
    grey = f' data-grey="{_data("image/jpeg", stack.grey)}"' if stack.grey else ""
    positions = " ".join(f"{position:.1f}" for position in stack.positions_nm)
    last = len(stack.positions_nm) - 1
    width = stack.columns * stack.nm_per_pixel
    return (
        f'<figure{grey} data-labels="{_data("image/png", stack.labels)}" data-positions="{positions}">'
        f'<canvas width="{stack.columns}" height="{stack.rows}" role="img" '
        f'aria-label="{stack.name} slices of {clean(name)}"></canvas>'
        f'<figcaption class="tools"><b>{stack.name}</b><label>{third} '
        f'<input type="range" min="0" max="{last}" value="{stack.start}"></label><output></output>'
        f'<span class="soft">{amount(width)} nm across</span></figcaption></figure>'
    )


def viewer_part(tomogram: TomogramReport) -> str:
    """Write the surfaces to be turned, still pictures in their place until then; nothing where there is neither."""
    stills = "".join(
        picture(tomogram.pictures[name]) for name in ("surfaces", "uncertainty") if name in tomogram.pictures
    )
    still = f'<div class="two">{stills}</div>' if stills else ""
    if tomogram.scene is None:
        return still
    facts = tomogram.scene.facts
    across = (facts["box"][0] ** 2 + facts["box"][1] ** 2) ** 0.5
    height = round(1400 * min(_TALLEST, 0.5 + 0.95 * facts["box"][2] / max(across, 1e-9)))
    text = clean(json.dumps(facts, separators=(",", ":")), longest=1_000_000)
    data = base64.b64encode(tomogram.scene.block).decode("ascii")
    proteins = '<label><input type="checkbox" class="proteins" checked> proteins</label>' if facts["proteins"] else ""
    colours = '<option value="membrane">membranes<option value="seen">seen and inferred<option value="sd">uncertainty'
    colours += '<option value="curvature">mean curvature' if facts.get("curvature_top_per_nm") else ""
    return (
        f'<figure class="viewer" data-scene="{data}" data-facts="{text}"><div class="still">{still}</div>'
        f'<canvas width="1400" height="{height}" tabindex="0" role="img" aria-label="surfaces of {clean(tomogram.id)}, '
        f'to be turned with the arrow keys"></canvas><div class="tools"><label>colour by <select>{colours}</select>'
        f"</label>{proteins}{_legends(tomogram.scene)}</div>"
        '<figcaption class="live-only"><b>All membranes.</b> Drag or use the arrow keys to turn, control and wheel (or '
        "+ and −) to come nearer, a double click to start again. The thin box is the tomogram. "
        f"{facts['faces']} triangles, thinned for this page; the meshes are in the tomogram's folder."
        "</figcaption></figure>"
    )


def _legends(scene: Scene) -> str:
    top = f"≥ {amount(scene.facts['sd_top_nm'], 2)} nm"
    bend = amount(scene.facts.get("curvature_top_per_nm", 0.0), 2)
    seen = f"{_swatch(_SEEN)}seen {_swatch(_INFERRED)}inferred from what was seen"
    return (
        '<span data-legend="membrane">one colour each, pale where inferred</span>'
        f'<span data-legend="seen" hidden>{seen}</span>'
        f'<span data-legend="sd" hidden>sd of the surface\'s position 0 <i class="ramp"></i> {top}</span>'
        f'<span data-legend="curvature" hidden>bent inwards ≤ −{bend} <i class="ramp bend"></i> ≥ {bend} nm⁻¹ '
        "outwards, white flat</span>"
    )


def _swatch(colour: tuple[int, int, int]) -> str:
    return f'<i class="sw" style="background:{hex_of(colour)}"></i>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
