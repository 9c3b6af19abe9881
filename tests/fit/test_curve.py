"""Curves against ellipses, bananas, nests of rings; the process against a dense one and SciPy's thin plate."""

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from cryoscale.fit import anchors as anchors_module
from cryoscale.fit import curve as module
from cryoscale.fit.anchors import normal_anchors, thin_ring
from cryoscale.fit.curve import fit_curve, thin_plate
from cryoscale.fit.ellipse import Ellipse
from tests.fit.test_ellipse import TRUE, cloud

INNER = Ellipse(TRUE.centre, TRUE.axes - 8, 0.7)


def banana(seed, n=500, noise=0.7):
    """Outline of a tube of radius 9 around an arc of radius 30: not star-shaped about its centroid."""
    rng = np.random.default_rng(seed)
    q = rng.uniform(-48, 48, (400_000, 2))
    turn = np.clip(np.arctan2(q[:, 0], q[:, 1]), -1.75, 1.75)
    off = q - 30 * np.stack([np.sin(turn), np.cos(turn)], 1)
    far = np.linalg.norm(off, axis=1)
    near = np.flatnonzero(np.abs(far - 9) < 0.3)
    pick = near[rng.permutation(len(near))[:n]]
    # Onto the outline exactly, then noise.
    points = q[pick] - off[pick] * (1 - 9 / far[pick])[:, None]
    return points + rng.normal(0, noise, points.shape)


def to_banana(q):
    turn = np.clip(np.arctan2(q[:, 0], q[:, 1]), -1.75, 1.75)
    return np.linalg.norm(q - 30 * np.stack([np.sin(turn), np.cos(turn)], 1), axis=1) - 9


@pytest.mark.parametrize("anchors", ["normals", "centroid"])
def test_an_ellipse_is_followed_within_its_band(anchors) -> None:
    curve = fit_curve(cloud(0), anchors=anchors)
    (found,) = curve.contours()
    error = np.abs(TRUE.distance(found.points))
    assert found.closed and error.mean() < 0.4
    assert (error < 2 * found.sd_pixels).mean() > 0.9
    assert curve.mean(TRUE.centre[None])[0] > 0.5 and curve.mean(TRUE.centre[None] + [0, 54])[0] < -0.5
    assert not curve.at_bound
    np.testing.assert_allclose(curve.mean(found.points), 0, atol=1e-3)


def test_only_pairs_along_normals_follow_a_bent_outline() -> None:
    errors = {}
    for anchors in ("normals", "centroid"):
        pieces = fit_curve(banana(0), anchors=anchors).contours()
        errors[anchors] = np.abs(to_banana(np.concatenate([piece.points for piece in pieces]))).mean()
    assert errors["normals"] < 0.4 and errors["centroid"] > 4 * errors["normals"]


def test_nested_rings_alternate() -> None:
    for anchors in ("normals", "centroid"):
        curve = fit_curve([cloud(0, n=600), cloud(1, ellipse=INNER, n=500)], anchors=anchors)
        pieces = curve.contours()
        assert len(pieces) == 2 and all(piece.closed for piece in pieces)
        for piece, true in zip(pieces, (TRUE, INNER), strict=True):
            assert np.abs(true.distance(piece.points)).mean() < 0.6
        between = (TRUE.outline() + INNER.outline()) / 2
        assert (curve.mean(between) > 0).all() and curve.mean(TRUE.centre[None])[0] < -0.5
        # Outward of both rings, from + to - at the outer one, from - to + at the inner one.
        outward = [np.sign(((p.points - TRUE.centre) * p.normals).sum(1)) for p in pieces]
        assert (outward[0] > 0).all() and (outward[1] < 0).all()


def test_a_gap_is_inferred_and_said_to_be() -> None:
    points = cloud(2, gap=1.2)
    low, high = TRUE.outline().min(0) - 10, TRUE.outline().max(0) + 10
    (found,) = fit_curve(points, box=(tuple(low), tuple(high))).contours()
    inferred = found.support_pixels > 3
    assert found.closed and 0.1 < inferred.mean() < 0.4
    assert np.median(found.sd_pixels[inferred]) > 3 * np.median(found.sd_pixels[~inferred])
    assert np.abs(TRUE.distance(found.points)).max() < 12


def test_an_open_curve_ends_where_its_pixels_do() -> None:
    rng = np.random.default_rng(1)
    y = rng.uniform(-50, 50, 300)
    points = np.stack([y, 7 * np.sin(y / 20) + 0.005 * y * y], 1) + rng.normal(0, 0.7, (300, 2))
    found = fit_curve(points).contours()
    assert len(found) == 1 and not found[0].closed
    reach = found[0].points[:, 0]
    assert 42 < reach.max() < 54 and -54 < reach.min() < -42
    line = found[0].points
    assert np.abs(line[:, 1] - 7 * np.sin(line[:, 0] / 20) - 0.005 * line[:, 0] ** 2).mean() < 0.5


def test_a_thick_membrane_is_fitted_along_its_middle(monkeypatch) -> None:
    y, x = np.mgrid[0:120, 0:120]
    true = Ellipse(np.array([60.0, 60.0]), np.array([40.0, 40.0]), 0.0)
    mask = np.abs(true.distance(np.stack([y.ravel(), x.ravel()], 1))) <= 3.5
    pixels = np.stack([y.ravel(), x.ravel()], 1)[mask]
    (found,) = fit_curve(pixels).contours()
    assert np.abs(true.distance(found.points)).max() < 0.4
    # Without the move to the middle line each layer says zero.
    original = anchors_module._middle
    monkeypatch.setattr(anchors_module, "_middle", lambda points, *rest: (points, *original(points, *rest)[1:]))
    ragged = np.concatenate([piece.points for piece in fit_curve(pixels).contours()])
    assert np.abs(true.distance(ragged)).max() > 1.0


def test_against_a_dense_process_written_out() -> None:
    curve = fit_curve(cloud(4, n=150), amplitude=2.0)
    data, R, s = curve.points, curve.length_pixels, 2.0
    rng = np.random.default_rng(0)
    q = rng.uniform(*curve.box, (60, 2))

    def kernel(a, b):
        r = np.linalg.norm(a[:, None] - b[None], axis=2)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(r > 0, 2 * r**2 * np.log(r), 0) - (1 + 2 * np.log(R)) * r**2 + R**2
        return s**2 * value / R**2

    parts = [thin_ring(np.unique(cloud(4, n=150), axis=0), module.CELL_PIXELS)]
    off = normal_anchors(parts, 8.0)
    noise = np.concatenate([1 / np.sqrt(np.minimum(parts[0].counts, 9)) / 8.0, 0.25 * np.abs(off.values)])
    np.testing.assert_allclose(data, np.concatenate([parts[0].points, off.points]))
    C = kernel(data, data) + np.diag(noise**2 + module.JITTER * s**2)
    y = np.concatenate([np.zeros(curve.controls), off.values])
    k = kernel(q, data)
    np.testing.assert_allclose(curve.mean(q), k @ np.linalg.solve(C, y), atol=1e-7)
    np.testing.assert_allclose(curve.variance(q), s**2 - (k * np.linalg.solve(C, k.T).T).sum(1), atol=1e-7)
    sign, log_det = np.linalg.slogdet(C)
    expected = -0.5 * y @ np.linalg.solve(C, y) - 0.5 * log_det - 0.5 * len(y) * np.log(2 * np.pi)
    assert sign > 0 and abs(curve.log_evidence - expected) < 1e-6 * abs(expected)
    step = 1e-5 * np.eye(2)
    inside = np.clip(q, np.array(curve.box[0]) + 1, np.array(curve.box[1]) - 1)
    numeric = np.stack([(curve.mean(inside + e) - curve.mean(inside - e)) / 2e-5 for e in step], 1)
    np.testing.assert_allclose(curve.gradient(inside), numeric, atol=1e-6)


def test_interpolating_against_scipys_thin_plate() -> None:
    """Without noise and with a large R the process is the thin-plate spline, but for its own linear part."""
    points = TRUE.outline(61)[:-1]
    curve = fit_curve(points, noise_pixels=0.0, anchor_sd=0.0, amplitude=1.0, cell_pixels=0)
    np.testing.assert_allclose(curve.mean(points), 0, atol=1e-5)
    off = curve.points[curve.controls :]
    values = curve.mean(off)
    np.testing.assert_allclose(np.abs(values), 1, atol=1e-5)
    targets = np.concatenate([np.zeros(60), np.round(values)])
    spline = RBFInterpolator(curve.points, targets, kernel="thin_plate_spline", degree=1)
    # Between the pairs, where the data decide, they agree.
    rng = np.random.default_rng(0)
    q = TRUE.outline(500)[rng.integers(0, 500, 200)] + rng.uniform(-3, 3, (200, 2))
    np.testing.assert_allclose(curve.mean(q), spline(q), atol=0.01)
    (found,) = curve.contours()
    assert np.abs(TRUE.distance(found.points)).max() < 0.1


def test_the_kernel_needs_its_signs_and_its_length() -> None:
    q = np.random.default_rng(0).uniform(0, 100, (300, 2))
    square = ((q[:, None] - q[None]) ** 2).sum(2)
    assert np.linalg.eigvalsh(thin_plate(square, 1.0, 1.5 * 100 * 2**0.5)).min() > 0
    assert np.linalg.eigvalsh(thin_plate(square, 1.0, 60.0)).min() < -1.0
    t = square / 212.0**2
    assert np.linalg.eigvalsh(-t * np.log(np.maximum(t, 1e-300)) + t + 1).min() < -1.0


def test_questions_from_outside_the_box_are_refused() -> None:
    curve = fit_curve(cloud(0))
    with pytest.raises(ValueError, match="outside the box"):
        curve.mean(np.array([[1e3, 1e3]]))
    wider = fit_curve(cloud(0), box=((-400.0, -400.0), (600.0, 600.0)))
    assert wider.length_pixels >= 1.5 * 1000 * 2**0.5 - 1e-9 and wider.mean(np.array([[-400.0, 600.0]]))[0] < 0
    assert (wider.variance(np.random.default_rng(0).uniform(-400, 600, (100, 2))) >= 0).all()


def test_pairs_stop_before_the_other_side(monkeypatch) -> None:
    rings = [thin_ring(cloud(0, noise=0.1), 3.0), thin_ring(cloud(1, noise=0.1, ellipse=INNER), 3.0)]
    off = normal_anchors(rings, 8.0)
    every = np.concatenate([ring.points for ring in rings])
    nearest = np.linalg.norm(off.points[:, None] - every[None], axis=2).min(1)
    np.testing.assert_array_less(0.75 * np.abs(off.values) * 8.0, nearest)
    monkeypatch.setattr(anchors_module, "SHORTENINGS", 0)
    longer = normal_anchors(rings, 8.0)
    nearest = np.linalg.norm(longer.points[:, None] - every[None], axis=2).min(1)
    assert nearest.min() < 0.75 * 8.0


def test_large_rings_are_thinned_further(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_CONTROLS", 40)
    curve = fit_curve(cloud(0))
    assert 20 < curve.controls <= 40
    assert np.abs(TRUE.distance(curve.contours()[0].points)).mean() < 0.6


def test_the_amplitude_is_the_likeliest() -> None:
    chosen = fit_curve(cloud(0))
    others = [fit_curve(cloud(0), amplitude=float(s)).log_evidence for s in module.AMPLITUDES]
    assert chosen.log_evidence == max(others) and chosen.amplitude == module.AMPLITUDES[int(np.argmax(others))]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rings": np.zeros((5, 3))}, r"shape \(n, 2\)"),
        ({"rings": np.ones((5, 2))}, "at least 4 distinct points; found 1"),
        ({"rings": [cloud(0), cloud(0)[:2]]}, "at least 4 distinct"),
        ({"rings": np.full((5, 2), np.inf)}, "not finite"),
        ({"anchors": "both"}, "must be 'normals' or 'centroid'"),
        ({"alpha": 1.0}, "alpha must be above 1"),
        ({"alpha": np.inf}, "alpha must be above 1, and finite; found inf"),
        ({"noise_pixels": -1.0}, "noise_pixels must be not negative"),
        ({"noise_pixels": np.nan}, "noise_pixels must be .* found nan"),
        ({"anchor_sd": np.inf}, "anchor_sd must be .* found inf"),
        ({"amplitude": 0}, "amplitude must be above 0, or None, and finite; found 0"),
        ({"amplitude": np.nan}, "amplitude must be .* found nan"),
        ({"amplitude": -2.0}, "amplitude must be .* found -2"),
        ({"cell_pixels": np.nan}, "cell_pixels must be .* found nan"),
        ({"cell_pixels": -3.0}, "cell_pixels must be .* found -3"),
        ({"box": ((0, 0), (np.nan, 9))}, "box must be .* all finite"),
        ({"box": (0, 9)}, "box must be"),
    ],
)
def test_bad_input_is_refused(options, words) -> None:
    with pytest.raises(ValueError, match=words):
        fit_curve(**{"rings": cloud(0)} | options)


def test_a_grid_beyond_memory_is_refused() -> None:
    near = fit_curve(cloud(0))
    for curve, step in ((fit_curve(cloud(0) * 1e9), 2.0), (near, 1e-3)):
        with pytest.raises(ValueError, match="give coordinates in pixels, or a larger step_pixels"):
            curve.contours(step_pixels=step)
    for step in (0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="step_pixels must be a positive length"):
            near.contours(step_pixels=step)


def test_points_on_a_line_give_a_line() -> None:
    y = np.arange(30.0)
    (found,) = fit_curve(np.stack([y, 2 * y], 1)).contours()
    assert np.abs(found.points[:, 1] - 2 * found.points[:, 0]).max() < 0.1
