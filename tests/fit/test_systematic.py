"""What the points of a segmentation have wrong in common: where it applies, and what it changes."""

import numpy as np

from cryoscale.fit import fit_surface
from cryoscale.fit.systematic import INDEPENDENT, OPEN, Systematic
from tests.fit.shapes import sphere_points
from tests.fit.test_noise import ridge_like

CAP, SIDE = np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.array([[0, 1.0, 0], [0, 0, -1.0]])


def test_only_what_the_wedge_hides_is_shifted_and_only_where_points_err_together() -> None:
    known, unknown = Systematic(1.0, True), Systematic(1.0, False)
    assert (known.shift(CAP) > 0.5).all() and (known.shift(SIDE) == 0).all()
    assert (known.variance(CAP) > 10 * known.variance(SIDE)).all() and (known.variance(SIDE) > 0).all()
    assert (unknown.shift(CAP) == 0).all()
    assert np.allclose(unknown.variance(CAP), known.variance(CAP) + known.shift(CAP) ** 2 + OPEN)
    large, huge = Systematic(1.0, True, 50.0), Systematic(1.0, True, 500.0)
    assert (large.shift(CAP) > 1.5 * known.shift(CAP)).all() and (huge.shift(CAP) < 1.3 * large.shift(CAP)).all()
    assert (large.variance(CAP) > 1.5 * known.variance(CAP)).all()
    assert np.allclose(Systematic(1.0, False, 500.0).variance(CAP), unknown.variance(CAP))
    assert (INDEPENDENT.variance(CAP) == 0).all() and (INDEPENDENT.shift(CAP) == 0).all()


def test_the_wedge_lies_in_the_plane_of_the_beam_and_x() -> None:
    """A membrane inclined towards the tilt axis (y) is hidden; one as steep towards x is seen by some tilt."""
    known, degree = Systematic(1.0, True), np.pi / 180
    steep = np.array([np.sin(40 * degree), np.cos(40 * degree)])
    towards_y, towards_x = np.array([[steep[0], steep[1], 0]]), np.array([[steep[0], 0, steep[1]]])
    assert known.shift(towards_y)[0] > 0.5 > 0.05 > known.shift(towards_x)[0]
    assert known.variance(towards_y)[0] > 5 * known.variance(towards_x)[0]
    # At its ends the tilt axis itself is seen whole: both fade out, without a jump.
    ends = np.array([[0.0, 1.0, 0.0], [1e-3, 1.0, 0.0], [0.0, 1.0, 1e-3]])
    assert known.shift(ends).max() < 0.005 and np.ptp(known.variance(ends)) < 1e-4


def test_caps_of_a_segmentation_are_moved_inward_and_doubted() -> None:
    plain = fit_surface(sphere_points(20.0, 2600, seed=2, noise=0.5), spacing=1.0)
    ridge = fit_surface(ridge_like(0.15, 0.5, 2), spacing=1.0)
    turn = np.linspace(0, 2 * np.pi, 60)
    cap, side = 20.0 * CAP, 20.0 * np.stack([0 * turn, np.cos(turn), np.sin(turn)], 1)
    assert not plain.choice["outward_shift_removed"] and ridge.choice["outward_shift_removed"]
    assert np.abs(plain.distance(cap)).max() < 0.3
    assert ridge.distance(cap).mean() > 0.25 > abs(ridge.distance(side).mean())
    assert plain.distance_sd(cap).max() < 0.25 < 0.5 < ridge.distance_sd(cap).min()
    band = ridge.band(1.5)
    high = np.abs(band.index[:, 0]) >= 19
    assert band.sd[high].mean() > 2 * band.sd[np.abs(band.index[:, 0]) < 5].mean()
