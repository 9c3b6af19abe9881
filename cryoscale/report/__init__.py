"""Report stage: pictures of a tomogram without a GPU or a window, and pages that load nothing.

========================= ====================================================================
`render`, `decimate`      surfaces to pixels: z-buffer, light, fewer triangles
`planes`                  which slices show the most membrane
`figures`, `png`          slices, cut surfaces and surfaces with scale bars; small PNG files
`stacks`, `thin`          slices to look through, of volumes thinned to what a page shows
`scene`                   surfaces for the page's own viewer, in one compressed block
`smoothness`              steps of membranes from slice to slice
`charts`, `scores`        distributions, scores and times as SVG; scores as a picture
`run`                     what a page shows, as frozen records
`page`, `article`         the page, and one tomogram's part of it
`distributions`,          its parts
`proteins`, `interactive`
`page.js`, `script`       what moves on the page, and the policy that lets nothing else run
`connections`, `losses`,  pictures of other verbs
`slicefits`, `panels`
`plan`                    reads the products of a tomogram, writes pictures and page
========================= ====================================================================
"""

from cryoscale.report.page import render_page
from cryoscale.report.run import Picture, ReportRun, TomogramReport

__all__ = ["Picture", "ReportRun", "TomogramReport", "render_page"]
