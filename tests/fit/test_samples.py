"""The zero set on a sparse grid, against every node of the dense one."""

from dataclasses import replace

import numpy as np
import pytest

from cryoscale.fit import samples
from cryoscale.fit.cells import grow
from cryoscale.fit.nodes import Nodes
from cryoscale.fit.samples import Samples, trace
from tests.fit.shapes import SHAPES


def _counted(name: str, asked: list[np.ndarray]) -> samples.Field:
    shape = SHAPES[name]

    def field(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(q)
        slope = shape.gradient(q)
        # About a distance, as fitted fields are.
        size = np.maximum(np.linalg.norm(slope, axis=1), 1e-3)[:, None]
        return shape.field(q) / size[:, 0], slope / size

    return field


def _dense(name: str, low: np.ndarray, high: np.ndarray, step: float) -> int:
    """The number of edges of the whole grid along which the shape's sign changes."""
    first, last = np.floor(low / step).astype(int), np.ceil(high / step).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(a, b + 1) for a, b in zip(first, last, strict=True)], indexing="ij"), -1)
    inside = SHAPES[name].field(grid.reshape(-1, 3) * step).reshape(grid.shape[:3]) < 0
    return sum(int(np.count_nonzero(np.diff(inside, axis=axis))) for axis in range(3))


@pytest.mark.parametrize("name", ["ellipsoid", "bumpy", "peanut", "banana"])
def test_no_edge_is_missed_and_few_nodes_are_looked_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray] = []
    low, high = np.full(3, -71.3), np.full(3, 70.7)

    def found(**changed: object) -> Samples:
        asked.clear()
        with monkeypatch.context() as patch:
            for name_there, value in changed.items():
                patch.setattr(samples, name_there, value)
            return trace(_counted(name, asked), low, high, 3.0)

    usual = found()
    every = _dense(name, low, high, 3.0)
    assert len(usual.points) == every and not usual.border.any()
    nodes = sum(map(len, asked))
    assert len(found(SLACK=0.4).points) == every
    assert len(found(SLACK=0.4, _crossed=_as_found).points) < every
    found(SLACK=100.0)
    assert nodes < 0.7 * sum(map(len, asked))


_crossed = samples._crossed


def _as_found(nodes: Nodes) -> samples._Edges:
    """Leave corners that are lacking where they are."""
    return replace(_crossed(nodes), lacking=np.zeros((0, 3), np.int64))


@pytest.mark.parametrize("reach", [4.0, 30.0])
def test_corners_are_added_within_reach_of_the_points_alone(reach: float) -> None:
    asked: list[np.ndarray] = []
    near = np.array([[0.0, 0.0, 40.0], [0.0, 0.0, -40.0]])
    found = trace(_counted("ellipsoid", asked), near.min(0) - 50.0, near.max(0) + 50.0, 3.0, near=near, reach=reach)
    away = np.linalg.norm(found.nodes.index[:, None] * 3.0 - near, axis=-1).min(1)
    assert away.max() <= reach + 3.0
    whole = len(trace(_counted("ellipsoid", asked), np.full(3, -70.0), np.full(3, 70.0), 3.0).points)
    assert len(found.points) < 0.9 * whole


def test_cells_take_over_what_is_known_of_their_nodes() -> None:
    asked: list[np.ndarray] = []
    field = _counted("bumpy", asked)
    found = trace(field, np.full(3, -70.0), np.full(3, 70.0), 4.0)
    again, shared = [], 0
    for known in (None, found.nodes, trace(field, np.full(3, -70.0), np.full(3, 70.0), 3.0).nodes):
        asked.clear()
        again.append((grow(field, found.points, 6.0, pitch=4.0, width=2.0, known=known), sum(map(len, asked))))
        if known is None:
            shared = sum(int((found.nodes.rows(np.rint(q / 4.0).astype(np.int64)) >= 0).sum()) for q in asked)
    for cells, _ in (again[1], again[2]):
        assert np.array_equal(cells.value, again[0][0].value) and np.array_equal(cells.slope, again[0][0].slope)
        assert np.array_equal(cells.corners, again[0][0].corners)
    assert again[1][1] == again[0][1] - shared and again[2][1] == again[0][1]
    assert shared > 0.5 * again[0][1]


def test_nodes_are_found_by_their_numbers() -> None:
    rng = np.random.default_rng(0)
    index = np.unique(rng.integers(-5, 6, (200, 3)), axis=0)
    nodes = Nodes(2.0, index, rng.normal(size=len(index)), rng.normal(size=(len(index), 3)))
    asked = rng.integers(-7, 8, (500, 3))
    rows = nodes.rows(asked)
    names = {tuple(i): row for row, i in enumerate(index.tolist())}
    assert rows.tolist() == [names.get(tuple(i), -1) for i in asked.tolist()]
    nothing = Nodes(2.0, np.zeros((0, 3), np.int64), np.zeros(0), np.zeros((0, 3)))
    assert (nothing.rows(asked) == -1).all()
