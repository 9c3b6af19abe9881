"""The rows of `_grouping` side by side: the best plain method of each set, the others, and the means.

    F1 of a set = mean over its volumes,        mean = mean over the sets, each counted once

Plain methods are those whose name starts with "26" or "distance".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LIMIT = "limit"
"""Name of the row of the truth within each group."""
PLAIN = ("26", "distance")


def best_plain(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of the plain method with the best F1, of equals the one with the best ARI."""
    plain = [row for row in rows if row["method"].startswith(PLAIN)]
    return max(plain, key=lambda row: (row["f1"], row["ari"]))


def summary(rows: list[dict[str, Any]], *, second_view: bool = False) -> dict[str, Any]:
    """Compare: means over the sets, and the one plain method that is best for all.

    On the headline views, or on the second ones of the sets that have two.
    """
    two = {row["set"] for row in rows if not row["headline"]}
    counted = [row for row in rows if row["headline"] != (second_view and row["set"] in two)]
    names = list(dict.fromkeys(row["set"] for row in counted))
    by_set = [best_plain([row for row in counted if row["set"] == name]) for name in names]
    mean = {
        method: {key: float(np.mean([r[key] for r in counted if r["method"] == method])) for key in ("f1", "ari", "vi")}
        for method in dict.fromkeys(row["method"] for row in counted)
    }
    overall = max((m for m in mean if m.startswith(PLAIN)), key=lambda m: (mean[m]["f1"], mean[m]["ari"]))
    best = {key: float(np.mean([row[key] for row in by_set])) for key in ("f1", "ari", "vi")}
    worse = {}
    for method in (m for m in mean if not m.startswith((*PLAIN, LIMIT))):
        own = {row["set"]: row["f1"] for row in counted if row["method"] == method}
        worse[method] = [row["set"] for row in by_set if own[row["set"]] < row["f1"] - 1e-9]
    return {"sets": names, "best per set": best, "best for all": overall, "mean": mean, "worse than best plain": worse}


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
        mark = "" if these[0]["headline"] else " (second view)"
        kind = " (simulated)" if these[0]["kind"] == "simulated" else ""
        best = best_plain(these)
        lines.append(_line(f"{key[0]}{kind}", f"best plain: {best['method']}", best))
        for k, row in enumerate(r for r in these if not r["method"].startswith("distance")):
            lines.append(_line(f"  {key[1]}{mark}" if k == 0 else "", row["method"], row))
    second = [] if all(row["headline"] for row in rows) else _mean_lines(rows, True)
    return "\n".join([*lines, *_mean_lines(rows, False), *second])


def _mean_lines(rows: list[dict[str, Any]], second_view: bool) -> list[str]:
    total = summary(rows, second_view=second_view)
    view = "second views where there are two" if second_view else "headline views"
    head = f"mean of {len(total['sets'])} sets, {view}"
    lines = ["", f"{head:60}{'F1':>8}{'ARI':>8}{'VI':>8}"]
    shown = {"best plain distance of each set": total["best per set"]}
    shown[f"best plain for all: {total['best for all']}"] = total["mean"][total["best for all"]]
    shown |= {m: s for m, s in total["mean"].items() if not m.startswith("distance")}
    lines += [f"  {name:58}{s['f1']:8.3f}{s['ari']:8.3f}{s['vi']:8.3f}" for name, s in shown.items()]
    for method, names in total["worse than best plain"].items():
        lines.append(f"  {method}: F1 below the best plain one of the set in {', '.join(names) or 'none'}")
    return lines
