"""fit_surface on shapes that are known: closed or open, where the surface is, and what must not change it."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoscale.fit import (
    Surface,
    choose,
    evaluate,
    fit_surface,
    fit_surfaces,
    fitting,
    patches,
    prepare,
    projected_bytes,
)
from cryoscale.fit.covariance import Kernel
from tests.fit.shapes import SHAPES, degrade, sphere_points, surface_points, truth_shell


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    key = np.array([10**8, 10**4, 1])
    left, right = (a.astype(np.int64) + 500) @ key, (b.astype(np.int64) + 500) @ key
    return 2 * len(np.intersect1d(left, right)) / (len(left) + len(right))


def test_voxel_spacing_is_found() -> None:
    grid = np.argwhere(np.ones((33, 33, 33), bool)) - 16.0
    shell = grid[np.abs(np.linalg.norm(grid, axis=1) - 12) < 1.5]
    surface = fit_surface(shell * 0.9)
    assert np.isclose(surface.unit, 0.9)
    assert np.abs(surface.distance(sphere_points(12 * 0.9, 50, seed=0))).max() < 0.3


def test_order_of_points_does_not_matter() -> None:
    cloud = sphere_points(15, 1200, seed=5, noise=0.4)
    q = sphere_points(15, 60, seed=6)
    shuffled = np.random.default_rng(0).permutation(cloud)
    assert np.allclose(fit_surface(cloud).distance(q), fit_surface(shuffled).distance(q), atol=1e-9)


@pytest.mark.parametrize("name", ["ellipsoid", "bumpy", "peanut", "banana"])
def test_shapes_without_caps(name: str) -> None:
    cloud, _ = degrade(SHAPES[name], seed=7, cap=0.7, noise=0.5)
    surface = fit_surface(cloud, spacing=1.0)
    assert surface.closed
    assert _dice(truth_shell(SHAPES[name]), surface.band(1.5).index) > 0.87


def test_an_ellipsoid_that_does_not_fit_is_no_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bent membrane whose caps nobody saw: with an ellipsoid as its prior mean one cap is a balloon."""
    cloud = degrade(SHAPES["banana"], seed=9, cap=0.7, noise=1.0)[0]
    offered = fitting.prepare(cloud, spacing=1.0)
    surface = fit_surface(cloud, spacing=1.0)
    assert offered.ellipsoid is None and not surface.choice["ellipsoid"]
    assert _dice(truth_shell(SHAPES["banana"]), surface.band(1.5).index) > 0.85
    for name in ("ellipsoid", "bumpy", "peanut"):
        fitting_one = degrade(SHAPES[name], seed=9, cap=0.7, noise=1.0)[0]
        assert fitting.prepare(fitting_one, spacing=1.0).ellipsoid is not None
    monkeypatch.setattr(prepare, "FARTHEST_OFF", np.inf)
    assert fitting.prepare(cloud, spacing=1.0).ellipsoid is not None


def test_an_open_sheet_stays_open_and_bridges_its_gaps() -> None:
    shape = SHAPES["sheet"]
    cloud, _ = degrade(shape, seed=1, noise=0.5)
    surface = fit_surface(cloud, spacing=1.0)
    band = surface.band(1.5)
    assert not surface.closed
    outside = np.maximum(np.abs(band.index[:, 0]) - 40, np.abs(band.index[:, 1]) - 60)
    assert outside.max() <= 4
    error = np.abs(np.abs(shape.distance(band.index - 0.0)) - np.abs(band.distance))
    assert error[outside <= 0].mean() < 0.3
    assert _dice(truth_shell(shape), band.index) > 0.9


def test_sheets_3_voxels_apart_stay_3_voxels_apart() -> None:
    rng = np.random.default_rng(2)
    y, x = rng.uniform(-30, 30, (2, 2, 3000))
    sheets = [np.stack([3.0 * k + 0.006 * (y[k] ** 2 - x[k] ** 2), y[k], x[k]], 1) for k in range(2)]
    pair = fit_surfaces([sheet + rng.normal(0, 0.5, sheet.shape) for sheet in sheets], spacing=1.0)
    low, high = (surface for surface in pair if isinstance(surface, Surface))
    inner = sheets[0][np.abs(sheets[0][:, 1:]).max(1) < 25][::5]
    lean = np.sqrt(1 + ((0.012 * inner[:, 1:]) ** 2).sum(1))
    apart = np.abs(high.distance(inner) - low.distance(inner)) * lean
    assert not low.closed and not high.closed
    assert np.abs(apart - 3).max() < 0.5 and abs(apart.mean() - 3) < 0.1


def test_nested_vesicles_without_caps_do_not_cross() -> None:
    clouds = [sphere_points(r, 3000, seed=k, cap=0.7, noise=0.5) for k, r in enumerate((24.0, 20.0))]
    outer, inner = (surface for surface in fit_surfaces(clouds, spacing=1.0) if isinstance(surface, Surface))
    assert outer.closed and inner.closed
    vertices = inner.mesh(1.0)[0].astype(float)
    gap = -outer.distance(vertices)
    assert gap.min() > 2.5 and gap.max() < 5.5
    caps = np.abs(vertices[:, 0]) > 16
    # Where nothing was seen the distance is doubted more, and the truth, 4 voxels, is within what is said.
    sd = np.hypot(outer.distance_sd(vertices[caps]), inner.distance_sd(vertices[caps]))
    assert (np.abs(gap[caps] - 4) < 2.5 * sd).mean() > 0.9


def test_without_selection_outliers_spoil_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from cryoscale.fit.select import Selection

    rng = np.random.default_rng(0)
    q = sphere_points(15, 1200, seed=3, noise=0.5)
    cloud = np.concatenate([q, rng.uniform(-25, 25, (90, 3))])
    truth = sphere_points(15, 300, seed=4)
    good = np.abs(fit_surface(cloud, spacing=1.0).distance(truth)).mean()
    monkeypatch.setattr(prepare, "select_points", lambda points, weights, **_: Selection(points, weights))
    bad = fit_surfaces([cloud], spacing=1.0)[0]
    worse = np.abs(bad.distance(truth)).mean() if isinstance(bad, Surface) else np.inf
    assert good < 0.25 and worse > 2 * good


def test_many_at_once_equal_one_by_one_and_errors_stay_apart() -> None:
    clouds: list[Any] = [
        sphere_points(12, 700, seed=1, noise=0.3),
        np.eye(3),
        sphere_points(16, 900, seed=2) * [1, 1, 1.4],
    ]
    together = fit_surfaces(clouds, spacing=1.0)
    assert isinstance(together[1], ValueError) and "found 3" in str(together[1])
    q = sphere_points(14, 50, seed=3)
    for both, cloud in ((together[0], clouds[0]), (together[2], clouds[2])):
        assert isinstance(both, Surface)
        assert np.allclose(both.mean(q), fit_surface(cloud, spacing=1.0).mean(q), atol=1e-7)


@pytest.mark.parametrize("kernel", ["cubic", "matern52"])
def test_a_kernel_can_be_asked_for(kernel: str) -> None:
    surface = fit_surface(sphere_points(12, 700, seed=1, noise=0.3), kernel=kernel)
    assert surface.choice["kernel"] == kernel


@pytest.mark.parametrize("least", [1500, 60])
def test_parameters_that_end_at_their_bounds_are_told(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    """In one piece and in patches, whose candidates have a scale of their own."""
    monkeypatch.setattr(prepare, "LARGE", least)
    monkeypatch.setattr(patches, "CORE_POINTS", 150)
    monkeypatch.setattr(patches, "MOST_CONSTRAINTS", 0)
    cloud = degrade(SHAPES["bumpy"], seed=2, noise=0.5)[0]

    def told(kernel: str) -> list[str]:
        choice = fit_surface(cloud, spacing=1.0, kernel=kernel).choice
        assert (choice["patches"] > 1) == (least == 60)
        return [name for name in ("length_at_bound", "amplitude_at_bound") if choice[name]]

    monkeypatch.setattr(choose, "MATERN_LENGTHS", (0.7, 50.0))
    assert told("matern52") == []
    monkeypatch.setattr(choose, "MATERN_LENGTHS", (0.7,))
    assert told("matern52") == ["length_at_bound"]
    for plain in ("PLAIN_AMPLITUDES", "ELLIPSOID_AMPLITUDES"):
        monkeypatch.setattr(choose, plain, (0.01,))
    assert told("matern52") == ["length_at_bound", "amplitude_at_bound"]
    assert "length_at_bound" not in told("cubic")


def test_noise_that_ends_at_its_bound_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = sphere_points(12, 700, seed=1, noise=0.3)
    assert not fit_surface(cloud).choice["noise_at_bound"]
    monkeypatch.setattr(choose, "NOISE_SCALES", (1.0,))
    assert fit_surface(cloud).choice["noise_at_bound"]


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be"):
        fit_surface(sphere_points(9, 99, seed=0), kernel="rbf")
    with pytest.raises(ValueError, match="spacing must be"):
        fit_surface(sphere_points(9, 99, seed=0), spacing=-1)
    with pytest.raises(ValueError, match="places must have shape"):
        fit_surface(sphere_points(9, 99, seed=0)).mean(np.zeros(3))
    with pytest.raises(ValueError, match="found 2"):
        fit_surface([[0, 0, 0], [1e5, 0, 0]])


GRID = np.stack(np.meshgrid([5.0], np.arange(20.0), np.arange(20.0), indexing="ij"), -1).reshape(-1, 3)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (np.zeros((0, 3)), "found 0"),
        (np.ones((1, 3)), "found 1"),
        (np.eye(3), "found 3"),
        (np.ones((50, 3)), "found 1"),
        ([[0, 0, 0], [0, 0, 5], [0, 5, 0], [1, 5, 5]], "control points"),
        (np.arange(30.0)[:, None] * np.ones(3), "one line"),
        (np.concatenate([GRID, [[np.nan, 0, 0]]]), "the first is row 400"),
        (np.concatenate([GRID, [[np.inf, 0, 0]]]), "not finite"),
        ([[0, 0, 0], [1e5, 0, 0], [0, 1, 0], [1e5, 1, 0]], "2 control points"),
    ],
)
def test_too_little_or_nonsense_is_said_to_be(points: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fit_surface(points)


def test_a_plane_given_three_times_is_a_plane() -> None:
    surface = fit_surface(np.concatenate([GRID, GRID, GRID]))
    assert not surface.closed
    assert np.abs(surface.mesh(1.0)[0][:, 0] - 5).max() < 0.05
    assert np.abs(surface.mean_curvature(GRID[::7])).max() < 1e-3


def test_a_million_points() -> None:
    surface = fit_surface(sphere_points(40, 10**6, seed=0, noise=0.5), spacing=1.0)
    assert surface.closed
    q = sphere_points(40, 200, seed=1)
    assert np.abs(surface.distance(q)).max() < 0.2
    assert surface.distance_sd(q).max() < 0.2


def _inside_one_and_two(seeds: range, name: str) -> tuple[list[Any], list[Any]]:
    """z of the true surface where it was seen, and in its caps."""
    seen, caps = [], []
    for seed in seeds:
        shape, cap = SHAPES[name], (0.5, 0.7, 0.87)[seed % 3]
        surface = fit_surface(degrade(shape, seed=seed, cap=cap, noise=(0.5, 1.0)[seed % 2])[0], spacing=1.0)
        q = surface_points(shape, 0.02, np.random.default_rng(seed))
        g = shape.gradient(q)
        hidden = np.abs(g[:, 0]) >= cap * np.linalg.norm(g, axis=1)
        z = np.abs(surface.distance(q)) / surface.distance_sd(q)
        seen.append(z[~hidden])
        caps.append(z[hidden])
    return seen, caps


@pytest.mark.parametrize("name", ["bumpy", "peanut"])
def test_the_stated_uncertainty_is_true(name: str) -> None:
    """Twelve fits say roughly what two hundred say exactly (see the benchmark)."""
    for z in _inside_one_and_two(range(6), name):
        one, two = np.mean([np.mean(x <= 1) for x in z]), np.mean([np.mean(x <= 2) for x in z])
        assert 0.5 < one < 0.88 and two > 0.85


def test_half_of_it_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "block_scale", lambda *_, **__: 0.45)
    proud = np.concatenate(_inside_one_and_two(range(2), "bumpy")[0])
    assert np.mean(proud <= 1) < 0.5


def test_two_clumps_far_apart_are_refused() -> None:
    q = sphere_points(8, 300, seed=0, noise=0.2)
    with pytest.raises(ValueError, match="not one membrane"):
        fit_surface(np.concatenate([q, q + 1e5]), spacing=1.0)


def test_projected_bytes_grow_with_the_points() -> None:
    assert projected_bytes(10**6) > projected_bytes(10**4) > 0


def test_measured_peak_stays_below_the_projection() -> None:
    grid = np.argwhere(np.ones((41, 41, 41), bool)) - 20.0
    shell = grid[np.abs(np.linalg.norm(grid, axis=1) - 16) < 1.5]
    fit_surface(shell[::7], spacing=1.0)
    tracemalloc.start()
    surface = fit_surface(shell, spacing=1.0)
    surface.band(3.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < projected_bytes(len(shell))


def test_a_long_strip_stays_below_the_projection_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies across a box that is nearly empty."""
    rng, length, width = np.random.default_rng(0), 1000, 20
    along, across = np.array([1, 1, 1]) / 3**0.5, np.array([1, -1, 0]) / 2**0.5
    u, v = rng.uniform(0, length, (length * width // 2, 1)), rng.uniform(0, width, (length * width // 2, 1))
    strip = u * along + v * across + rng.normal(0, 0.5, (len(u), 3))

    asked: list[int] = []
    plainly = evaluate.field_gradient

    def counted(kernel: Kernel, points: np.ndarray, alpha: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(len(q))
        return plainly(kernel, points, alpha, q)

    monkeypatch.setattr(evaluate, "field_gradient", counted)
    tracemalloc.start()
    surface = fit_surface(strip, spacing=1.0)
    index = surface.band(1.5).index
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(index) > 2 * length * width
    assert peak < 0.6 * projected_bytes(len(strip))
    few = sum(asked)
    asked.clear()
    monkeypatch.setattr(fitting, "_half_width", lambda points: np.inf)
    fit_surface(strip, spacing=1.0)
    assert sum(asked) > 4 * few


@pytest.mark.parametrize("axes", [(15.0, 15.0, 75.0), (12.0, 40.0, 70.0), (8.0, 50.0, 50.0)])
def test_nothing_is_painted_inside_slender_membranes_nor_beyond_their_edges(axes: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    unit = sphere_points(1.0, 60_000, seed=0)
    # As many points everywhere: the sphere's are thinned by how much the ellipsoid's area is stretched there.
    stretch = np.linalg.norm(unit / axes, axis=1)
    cloud = (unit * axes)[rng.random(len(unit)) < 0.4 * stretch / stretch.max()]
    surface = fit_surface(cloud + rng.normal(0, 0.5, cloud.shape), spacing=1.0)
    band = surface.band(2.0)
    painted = band.index[np.abs(band.distance) <= 1.5]
    depth = np.linalg.norm(painted / np.array(axes), axis=1) - 1
    assert not (surface.choice["ellipsoid"] and max(axes) > 6 * min(axes))
    assert (np.abs(cKDTree(unit * axes).query(painted)[0]) <= 3.0).all()
    assert depth.min() > -0.7
