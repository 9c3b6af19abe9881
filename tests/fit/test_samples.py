"""The zero set on a sparse grid, against every node of the dense one."""

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

    def found(**changed: float) -> Samples:
        asked.clear()
        with monkeypatch.context() as patch:
            for constant, value in changed.items():
                patch.setattr(samples, constant, value)
            return trace(_counted(name, asked), low, high, 3.0)

    usual = found()
    assert len(usual.points) == _dense(name, low, high, 3.0) and not usual.border.any()
    nodes = sum(map(len, asked))
    assert found(CORNER_SLACK=0.5).border.any()
    found(CORNER_SLACK=100.0)
    assert nodes < 0.85 * sum(map(len, asked))


def test_cells_take_over_what_is_known_of_their_nodes() -> None:
    asked: list[np.ndarray] = []
    field = _counted("bumpy", asked)
    found = trace(field, np.full(3, -70.0), np.full(3, 70.0), 4.0)
    again = []
    for known in (None, found.nodes, trace(field, np.full(3, -70.0), np.full(3, 70.0), 3.0).nodes):
        asked.clear()
        again.append((grow(field, found.points, 6.0, pitch=4.0, width=2.0, known=known), sum(map(len, asked))))
    for cells, _ in (again[1], again[2]):
        assert np.array_equal(cells.value, again[0][0].value) and np.array_equal(cells.slope, again[0][0].slope)
        assert np.array_equal(cells.corners, again[0][0].corners)
    assert again[1][1] < 0.2 * again[0][1] and again[2][1] == again[0][1]


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
