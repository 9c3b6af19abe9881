"""The enhanced slice: edges kept, noise down, range 0 to 1, slabs equal the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryoscale.chunks import Region, whole
from cryoscale.driver import run_jobs
from cryoscale.engine import Job, LoopExecutor, Phase
from cryoscale.enhance import enhance_slice
from cryoscale.enhance.plan import ENHANCED, plan
from cryoscale.io.omezarr import create_image, read_region, write_region
from cryoscale.records import Geometry, Tomogram
from cryoscale.spec import EnhanceSpec

OPTIONS = {
    "centre": 0.0,
    "scale": 1.0,
    "sigma_voxels": 1.5,
    "sigma_intensity": 1.0,
    "clip_limit": 0.01,
    "tile_voxels": 16,
}


def test_noise_goes_down_and_the_edge_stays() -> None:
    rng = np.random.default_rng(0)
    truth = np.where(np.arange(64) < 32, -1.0, 1.0) * np.ones((64, 1))
    noisy = truth + rng.normal(0, 0.5, truth.shape)
    out = enhance_slice(noisy.astype(np.float32), **OPTIONS)
    assert out.min() >= 0
    assert out.max() <= 1
    contrast = out[:, 36:].mean() - out[:, :28].mean()
    spread = (out[:, 36:].std() + out[:, :28].std()) / 2
    before = 2.0 / 0.5
    assert contrast / spread > 1.5 * before


def test_refuses_a_volume_and_a_scale_of_zero() -> None:
    with pytest.raises(ValueError, match="3 axes"):
        enhance_slice(np.zeros((2, 8, 8)), **OPTIONS)
    with pytest.raises(ValueError, match="positive scale"):
        enhance_slice(np.zeros((8, 8)), **(OPTIONS | {"scale": 0.0}))


def test_slabs_equal_the_whole(tmp_path: Path) -> None:
    geometry = Geometry((12, 20, 24), (10.0, 10.0, 10.0))
    raw = np.random.default_rng(1).normal(size=geometry.shape).astype(np.float32)
    results = []
    for z in (4, 8, 16):
        folder = tmp_path / str(z)
        create_image(folder / "raw.ome.zarr", geometry, np.float32, (z, 16, 16))
        write_region(folder / "raw.ome.zarr", whole(geometry.shape), raw)
        tomogram = Tomogram("t", "t.mrc", str(folder), geometry)

        def job(tomogram=tomogram, z=z, folder=folder):
            stage = plan(tomogram, EnhanceSpec(), (z, 16, 16), source="raw.ome.zarr", intensity=(0.0, 1.0))
            units = next(stage)
            yield Phase("enhance", str(folder), "f", tuple(units))
            return {}

        (outcome,) = run_jobs([Job("t", job())], LoopExecutor())
        assert outcome.error is None
        results.append(read_region(folder / ENHANCED))
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    one = enhance_slice(
        raw[5], centre=0.0, scale=1.0, sigma_voxels=1.5, sigma_intensity=1.0, clip_limit=0.01, tile_voxels=60
    )
    assert (results[0][5] == one).all()
    assert read_region(tmp_path / "4" / ENHANCED, Region((5, 0, 0), (6, 20, 24))).shape == (1, 20, 24)
