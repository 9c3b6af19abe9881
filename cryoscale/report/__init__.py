"""Report stage: pictures of a tomogram without a GPU or a window, and one page for a run that loads nothing.

===================== ==================================================================
`render`, `decimate`  surfaces to pixels: z-buffer, light, fewer triangles
`planes`              which slices show the most membrane
`figures`, `png`      slices, cut surfaces and surfaces with scale bars; small PNG files
`charts`              distributions, scores and times as SVG
`run`                 what the page shows, as frozen records
`page`, `article`     the page, and one tomogram's part of it
`plan`                reads the products of a tomogram, writes pictures and page
===================== ==================================================================
"""

from cryoscale.report.page import render_page
from cryoscale.report.run import Picture, ReportRun, TomogramReport

__all__ = ["Picture", "ReportRun", "TomogramReport", "render_page"]
