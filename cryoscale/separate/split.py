r"""Patches: smooth pieces of sheet, cut where two membranes have been fused.

    residual(a) = rms of h - (c0 + c1 u + c2 v + c3 u^2 + c4 u v + c5 v^2) over the elements within 7 voxels of a along
    the surface,     junction where residual > 0.35 voxels

Voxels first hang together when they are near, their normals agree and each one's middle lies in the other's tangent
plane (`link_voxels`). Touching membranes so stay apart nearly everywhere; a few odd voxels may still bridge them, and
one bridge is enough to fuse two membranes. Two tests find bridges, in surface elements (`surfels`):

- **junctions**: around a bridge the elements reached *along the surface* lie on two sheets, and no paraboloid fits
  them. A bent, but single membrane is fitted to 0.1-0.3 voxels, whatever its shape.
- **necks**: two sheets that hang together by a strip narrower than the window, and face each other elsewhere. The
  strip may be smooth, the facing gives it away. A folded membrane passes: its fold is wide.

What is cut too often is joined again by evidence (`evidence`). Lengths in voxels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cryoscale.separate.evidence import facing
from cryoscale.separate.paraboloid import TERMS, add_element, set_frame, solve, squares
from cryoscale.separate.rows import Rows, row_range
from cryoscale.separate.sheets import Sheets
from cryoscale.separate.surfels import Ints, Surfels, connect, gather, pieces, step_between
from cryoscale.unionfind import flatten, unite

__all__ = ["cut_junctions", "cut_necks", "link_voxels"]

LINK = 2.0
"""Voxels at most this far apart are linked, if"""
COPLANAR = 1.0
"""their middles lie this near each other's tangent plane and"""
SAME_WAY = 0.8
"""the |cosine| between their normals is at least this."""
PURE = 0.7
SUPPORTED = 0.1
"""Of the median support."""
SMALLEST_VOXELS = 60
WINDOW = 7.0
TALL = 5.0
"""Elements farther from the tangent plane are left out: the far side of a narrow fold."""
ROUGH = 0.35
SMALLEST = 30
"""Elements of a patch."""
FULL = 0.7
"""Share of the usual number of elements in a window below which it is a border's or a neck's."""
FACING = 0.1
"""Share of a piece's elements that face the other piece beyond a neck: two sheets."""


@njit(cache=True, nogil=True)
def _link(points, x, start, nz, ny, middle, normal, good, parent):  # type: ignore[no-untyped-def]
    reach = int(LINK)
    for k in range(len(points)):
        if not good[k]:
            continue
        z0, y0 = points[k, 0], points[k, 1]
        for z in range(z0, min(z0 + reach + 1, nz)):
            for y in range(max(y0 - reach, 0), min(y0 + reach + 1, ny)):
                room = LINK * LINK - (z - z0) ** 2 - (y - y0) ** 2
                if room < 0.0:
                    continue
                room = np.sqrt(room)
                a, b = row_range(x, start[z * ny + y], start[z * ny + y + 1], x[k] - room, x[k] + room)
                for i in range(a, b):
                    if i <= k or not good[i]:
                        continue
                    _, up, down, cosine = step_between(middle, normal, k, i)
                    if abs(cosine) >= SAME_WAY and abs(up) < COPLANAR and abs(down) < COPLANAR:
                        unite(parent, k, i)


def link_voxels(rows: Rows, sheets: Sheets) -> Ints:
    """Group voxels into patches by steps along the sheet.

    Parameters
    ----------
    rows : Rows
    sheets : Sheets

    Returns
    -------
    (n,) int64 array
        Patch numbers 0, 1, ...; -1 for voxels of seams, of patches under 60 voxels and for strays.
    """
    good = (sheets.purity > PURE) & (sheets.support > SUPPORTED * np.median(sheets.support))
    parent = np.arange(good.size)
    _link(rows.points, rows.x, rows.start, rows.nz, rows.ny, sheets.middle, sheets.normal, good, parent)
    flatten(parent)
    good &= (np.bincount(parent, good, minlength=good.size) >= SMALLEST_VOXELS)[parent]
    patch = np.full(good.size, -1, np.int64)
    patch[good] = np.unique(parent[good], return_inverse=True)[1]
    return patch


@njit(cache=True, nogil=True)
def _windows(position, normal, start, other):  # type: ignore[no-untyped-def]
    """Residual of the paraboloid (0 where there are too few) and number of elements of each element's window."""
    m = len(position)
    residual, many = np.zeros(m), np.zeros(m, np.int64)
    seen, queue = np.full(m, -1, np.int64), np.empty(m, np.int64)
    frame, matrix, work = np.empty((3, 3)), np.empty((TERMS, TERMS)), np.empty((TERMS, TERMS))
    vector, f, c = np.empty(TERMS), np.empty(TERMS), np.empty(TERMS)
    for a in range(m):
        found = gather(position, start, other, a, WINDOW, seen, queue)
        many[a] = found
        if found < 8:
            continue
        set_frame(normal[a, 0], normal[a, 1], normal[a, 2], frame)
        matrix[:] = 0.0
        vector[:] = 0.0
        heights = 0.0
        for t in range(found):
            h = add_element(frame, position[queue[t]], position[a], WINDOW, TALL, f, matrix, vector)
            if not np.isnan(h):
                heights += h * h
        solve(matrix, vector, work, c)
        residual[a] = np.sqrt(squares(matrix, vector, heights, c) / matrix[0, 0])
    return residual, many


def cut_junctions(surfels: Surfels, *, rough: float = ROUGH) -> Ints:
    """Take away the elements around which a patch is no smooth surface, and number what still hangs together.

    Parameters
    ----------
    surfels : Surfels
    rough : float
        Largest residual of a smooth surface, voxels.

    Returns
    -------
    (m,) int64 array
        New patch numbers, -1 for junctions and for scraps.
    """
    for _ in range(2):
        graph = connect(surfels)
        residual, _ = _windows(surfels.position, surfels.normal, graph.start, graph.other)
        kept = (residual <= rough) & (surfels.patch >= 0)
        surfels = Surfels(surfels.position, surfels.normal, pieces(graph, kept, SMALLEST))
    return surfels.patch


def cut_necks(surfels: Surfels) -> Ints:
    """Cut patches at necks narrower than a window whose two sides face each other.

    Parameters
    ----------
    surfels : Surfels

    Returns
    -------
    (m,) int64 array
        New patch numbers, -1 for what is none.
    """
    graph = connect(surfels)
    _, many = _windows(surfels.position, surfels.normal, graph.start, graph.other)
    there = surfels.patch >= 0
    if not there.any():
        return surfels.patch
    piece = pieces(graph, there & (many >= FULL * np.median(many[there])), SMALLEST)
    apart = _facing_pieces(surfels, piece)
    cut = there & np.isin(surfels.patch, apart)
    whole = graph.only((piece[graph.rows()] == piece[graph.other]) | ~cut[graph.other])
    return pieces(whole, there & (~cut | (piece >= 0)), SMALLEST)


def _facing_pieces(surfels: Surfels, piece: Ints) -> Ints:
    """Patches of which two pieces face each other."""
    kept = piece >= 0
    if not kept.any():
        return np.zeros(0, np.int64)
    patch_of = np.zeros(int(piece.max()) + 1, np.int64)
    patch_of[piece[kept]] = surfels.patch[kept]
    several = np.bincount(patch_of, minlength=1)[patch_of] > 1
    kept &= several[piece]
    seen, other = facing(surfels.take(kept, piece[kept]))
    same = patch_of[piece[kept][seen]] == patch_of[other]
    pairs, count = np.unique(np.stack([piece[kept][seen[same]], other[same]], 1), axis=0, return_counts=True)
    size = np.bincount(piece[kept], minlength=patch_of.size)
    enough = (count >= np.maximum(FACING * size[pairs[:, 0]], SMALLEST)) & (size[pairs[:, 0]] <= size[pairs[:, 1]])
    return np.unique(patch_of[pairs[enough, 0]])
