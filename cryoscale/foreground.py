"""What counts as foreground: chosen values of a volume of classes or labels, or what reaches a score.

mask = (volume in values),     or (volume >= threshold),     or (volume != 0) where neither is given
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoscale.errors import UsageError

__all__ = ["Foreground", "foreground_of", "nothing_found"]


@dataclass(frozen=True)
class Foreground:
    """What counts as foreground in the source."""

    values: tuple[int, ...] = ()
    """Values that are kept; empty keeps every value but 0."""
    threshold: float | None = None
    """Keep what reaches this score instead."""
    separate_values: bool = False
    """Whether voxels join only within equal values."""

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a mask of `array`: bool, or its values where they are kept apart."""
        if self.threshold is not None:
            return np.asarray(array >= self.threshold)
        if not self.values:
            return array if self.separate_values else np.asarray(array != 0)
        # A value that the dtype cannot hold occurs nowhere; one comparison a value needs no sorting and little memory.
        kept = np.zeros(array.shape, np.bool_)
        for value in self.values:
            kept |= array == value
        return np.where(kept, array, array.dtype.type(0)) if self.separate_values else kept


def foreground_of(
    path: str,
    dtype: np.dtype[Any],
    mask_threshold: float,
    values: Sequence[int] = (),
    threshold: float | None = None,
    separate_values: bool = False,
) -> Foreground:
    """Return what counts as foreground in a volume.

    Parameters
    ----------
    path
        The volume, for messages.
    dtype
        Of its voxels.
    mask_threshold
        Threshold of scores where neither values nor a threshold are given.
    values, threshold, separate_values
        As for `cryoscale.merge.plan.plan`.

    Raises
    ------
    UsageError
        If the options contradict each other or the volume.
    """
    floating = bool(np.issubdtype(dtype, np.floating))
    if threshold is None and floating and not values:
        threshold = mask_threshold
    if (threshold is not None and values) or (separate_values and (floating or threshold is not None)):
        raise UsageError(
            "scores have no values to choose or to keep apart",
            where=path,
            found=f"{dtype} with values {tuple(values)}, separate_values {separate_values}",
            allowed="whole-numbered labels, or a threshold alone",
        )
    if 0 in values:
        raise UsageError("0 is background", where=path, found=f"values {tuple(values)}", allowed="any other value")
    return Foreground(tuple(int(value) for value in values), threshold, separate_values)


def nothing_found(stage: str, foreground: Foreground, voxels: int) -> list[str]:
    """Say why there is no membrane: an empty table alone looks like a result.

    Parameters
    ----------
    stage : str
        Who looked.
    foreground : Foreground
        What was looked for.
    voxels : int
        How many voxels of it there are.
    """
    if voxels:
        return [f"{stage}: {voxels} voxels of membrane, but no membrane reaches merge.minimum_volume_nm3"]
    if foreground.threshold is not None:
        return [f"{stage}: no voxel is membrane; looked for scores from {foreground.threshold:g}"]
    return [f"{stage}: no voxel is membrane; looked for values {list(foreground.values) or 'other than 0'}"]
