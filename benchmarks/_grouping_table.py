"""The rows of `_grouping` side by side: the best plain method of each set, the others, and the means.

    F1 of a set = mean over its volumes,        mean = mean over the sets, each counted once

Plain methods are those whose name starts with "26" or "distance". They are compared in two ways: at the distance that
is best for each set, which takes knowing its truth, and at the one distance that is best for all the sets together.
Where a set has several views of its truth, the means are taken in each: a set without the view counts with its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PLAIN = ("26", "distance")
NAMED = ("autophagosome", "phagophore", "mitochondria-TE1", "vesicles", "touching", "nested")
"""Sets compared apart as well: the real ones, and the simulated touching and nested vesicles."""
MEANS = ("f1", "ari", "vi")


def best_plain(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the plain method with the best F1, of equals the one with the best ARI."""
    plain = [row for row in rows if row["method"].startswith(PLAIN)]
    return max(plain, key=lambda row: (row["f1"], row["ari"]))


def views(rows: list[dict[str, Any]]) -> list[str]:
    """Return the views that are not every set's only one, the headline as an empty name first."""
    return ["", *dict.fromkeys(row["view"] for row in rows if not row["headline"])]


def in_view(rows: list[dict[str, Any]], view: str) -> list[dict[str, Any]]:
    """Return the rows of a view, and the headline rows of the sets that do not have it."""
    having = {row["set"] for row in rows if row["view"] == view}
    return [row for row in rows if (row["view"] == view if row["set"] in having else row["headline"])]


def summary(rows: list[dict[str, Any]], *, view: str = "", names: Sequence[str] = ()) -> dict[str, Any]:
    """Compare the means over sets.

    Parameters
    ----------
    rows : list of dict
        From `_grouping.quality_rows`.
    view : str
        A view, or the headline.
    names : sequence of str
        The sets that count; all if there are none.

    Returns
    -------
    dict
        The sets, the mean scores of every method ("mean"), of the best plain one of each set ("best per set"), the
        name of the one plain method that is best for all, and for each other method what its F1 is above both
        ("gain") and the sets where it is below their best plain one ("worse than best plain").
    """
    counted = [row for row in in_view(rows, view) if not names or row["set"] in names]
    found = list(dict.fromkeys(row["set"] for row in counted))
    by_set = [best_plain([row for row in counted if row["set"] == name]) for name in found]
    methods = list(dict.fromkeys(row["method"] for row in counted))
    mean = {m: {key: float(np.mean([r[key] for r in counted if r["method"] == m])) for key in MEANS} for m in methods}
    overall = max((m for m in mean if m.startswith(PLAIN)), key=lambda m: (mean[m]["f1"], mean[m]["ari"]))
    best = {key: float(np.mean([row[key] for row in by_set])) for key in MEANS}
    worse, gain = {}, {}
    for method in (m for m in mean if not m.startswith(PLAIN)):
        own = {row["set"]: row["f1"] for row in counted if row["method"] == method}
        worse[method] = [row["set"] for row in by_set if own[row["set"]] < row["f1"] - 1e-9]
        f1 = mean[method]["f1"]
        gain[method] = {"best per set": f1 - best["f1"], "best for all": f1 - mean[overall]["f1"]}
    return {
        "view": view or "headline",
        "sets": found,
        "best per set": best,
        "best for all": overall,
        "mean": mean,
        "gain": gain,
        "worse than best plain": worse,
    }


def summaries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the summary of every view, over all sets and over the named ones."""
    every = [summary(rows, view=view) for view in views(rows)]
    return every + [summary(rows, view=view, names=NAMED) for view in views(rows)]


def _line(head: str, method: str, row: Mapping[str, Any]) -> str:
    scores = f"{row['f1']:8.3f}{row['ari']:8.3f}{row['vi_split']:8.3f}{row['vi_fused']:8.3f}"
    return f"{head:36}{method:24}{scores}{row['found']:8.1f}{row['true']:7.1f}{row['seconds']:9.2f}"


def quality_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows side by side: per set and view the best plain method, 26-connected, and every other method."""
    lines = [
        f"{'set':36}{'method':24}{'F1':>8}{'ARI':>8}{'split':>8}{'fused':>8}{'found':>8}{'true':>7}{'seconds':>9}",
    ]
    for key in dict.fromkeys((row["set"], row["view"]) for row in rows):
        these = [row for row in rows if (row["set"], row["view"]) == key]
        kind = " (simulated)" if these[0]["kind"] == "simulated" else ""
        best = best_plain(these)
        lines.append(_line(f"{key[0]}{kind}", f"best plain: {best['method']}", best))
        for k, row in enumerate(r for r in these if not r["method"].startswith("distance")):
            lines.append(_line(f"  {key[1]}" if k == 0 else "", row["method"], row))
    return "\n".join([*lines, *(line for total in summaries(rows) for line in _mean_lines(total))])


def _mean_lines(total: dict[str, Any]) -> list[str]:
    head = f"mean of {len(total['sets'])} sets, {total['view']}"
    lines = ["", f"{head:60}{'F1':>8}{'ARI':>8}{'VI':>8}"]
    shown = {"best plain distance of each set": total["best per set"]}
    shown[f"best plain for all: {total['best for all']}"] = total["mean"][total["best for all"]]
    shown |= {m: s for m, s in total["mean"].items() if not m.startswith("distance")}
    lines += [f"  {name:58}{s['f1']:8.3f}{s['ari']:8.3f}{s['vi']:8.3f}" for name, s in shown.items()]
    for method, names in total["worse than best plain"].items():
        gain = total["gain"][method]
        lines.append(
            f"  {method}: F1 {gain['best per set']:+.3f} against the best of each set, {gain['best for all']:+.3f} "
            f"against the best for all; below the best of the set in {', '.join(names) or 'none'}"
        )
    return lines
