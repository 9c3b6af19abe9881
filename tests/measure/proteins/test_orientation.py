"""Euler angles against SciPy's rotations, by RELION's convention."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryoscale.measure.proteins.orientation import euler_angles


def z_axis(angles):
    """Where the reference's z axis points in the tomogram, x, y, z: the inverse of intrinsic ZYZ."""
    return Rotation.from_euler("ZYZ", angles, degrees=True).inv().apply([0.0, 0.0, 1.0])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_z_axis_is_the_normal(seed):
    normals = np.random.default_rng(seed).normal(size=(20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    angles = euler_angles(normals)
    np.testing.assert_allclose(z_axis(angles)[:, ::-1], normals, atol=1e-12)
    # In degrees with 6 decimals, as a file has them, the axis is off by less than 1e-7.
    np.testing.assert_allclose(z_axis(np.round(angles, 6))[:, ::-1], normals, atol=1e-7)


def test_the_poles_and_the_axes():
    normals = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]])
    angles = euler_angles(normals)
    np.testing.assert_allclose(z_axis(angles)[:, ::-1], normals, atol=1e-12)
    np.testing.assert_allclose(angles[:2], [[0, 0, 0], [0, 180, 0]])


def test_other_conventions_are_seen():
    normals = np.array([[0.2, 0.5, 0.842615]])
    angles = euler_angles(normals)
    forward = Rotation.from_euler("ZYZ", angles, degrees=True).apply([0.0, 0.0, 1.0])[:, ::-1]
    extrinsic = Rotation.from_euler("zyz", angles, degrees=True).inv().apply([0.0, 0.0, 1.0])[:, ::-1]
    swapped = z_axis(angles)
    assert all(np.abs(other - normals).max() > 0.1 for other in (forward, extrinsic, swapped))
