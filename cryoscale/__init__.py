"""cryoscale: cryo-electron tomograms in, separate, closed, measured membranes out.

The stages, in order; each folder holds a stage's maths in its kernels and its scale in its plan:

========= ============================================================= =========================
stage     what it does                                                  folder
========= ============================================================= =========================
ingest    MRC, TIFF or OME-Zarr to chunked, checksummed OME-Zarr        cryoscale/ingest
enhance   bilateral filter and CLAHE, for the eye (off by default)      cryoscale/enhance
segment   U-Net: background, protein, membrane                          cryoscale/segment
merge     union-find: pieces to membranes, across chunks                cryoscale/merge
connect   or Q-learning: pieces to membranes, slice by slice            cryoscale/connect
separate  by shape: what touches comes apart, pieces are joined         cryoscale/separate
locate    protein components, taken apart by mean shift                 cryoscale/merge, locate
fit       a Gaussian-process surface per membrane, with uncertainty     cryoscale/fit
surface   labels of uniform thickness, sd, support; meshes              cryoscale/surface
measure   areas, volumes, neighbours: tables                            cryoscale/measure
report    one page for the collection                                   cryoscale/report
========= ============================================================= =========================

Arrays in, arrays out, no files and no cluster::

    labels, count = cryoscale.merge.merge_regions(mask, distance_voxels=3.0)
    surface = cryoscale.fit.fit_surface(points)
    vertices, faces = surface.mesh(1.0)
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.2.0"

_STAGES = (
    "band",
    "connect",
    "enhance",
    "evaluate",
    "fit",
    "measure",
    "merge",
    "segment",
    "separate",
    "simulate",
    "surface",
)


def __getattr__(name: str) -> ModuleType:
    """Import a stage when it is first named: ``import cryoscale`` alone stays quick."""
    if name in _STAGES:
        return importlib.import_module(f"cryoscale.{name}")
    msg = f"module 'cryoscale' has no attribute {name!r}"
    raise AttributeError(msg)
