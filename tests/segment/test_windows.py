"""The geometry of windows."""

from __future__ import annotations

import pytest

from cryoscale.chunks import Region, whole
from cryoscale.segment.windows import Window, region_to_read, window_of
from tests.segment.networks import small


def test_a_window_reaches_out_to_the_grid_and_never_beyond_the_volume() -> None:
    window = Window((2, 23, 23), (1, 4, 4))
    read = region_to_read(Region((5, 40, 0), (9, 50, 64)), (20, 70, 64), window)
    assert read == Region((3, 16, 0), (11, 70, 64))
    boxes = Window((9, 9, 9), (2, 2, 2), boxes=True)
    assert region_to_read(Region((20, 20, 20), (31, 30, 30)), (64, 64, 64), boxes) == Region((10,) * 3, (40,) * 3)


def test_the_window_is_the_models() -> None:
    model = small("unet25d")
    assert window_of(model) == Window(model.halo_voxels, model.multiple)
    assert window_of(small("unet3d")).boxes


@pytest.mark.parametrize(
    "region", [Region((0, 0, 0), (0, 8, 8)), Region((0, 0, 0), (1, 8, 9)), Region((0, -1, 0), (1, 8, 8))]
)
def test_region_outside_the_volume_is_refused(region: Region) -> None:
    with pytest.raises(ValueError, match="empty or outside"):
        region_to_read(region, (1, 8, 8), Window((0, 2, 2), (1, 4, 4)))


def test_all_of_a_volume_is_read_for_all_of_it() -> None:
    assert region_to_read(whole((3, 9, 9)), (3, 9, 9), Window((1, 2, 2), (1, 4, 4))) == whole((3, 9, 9))
