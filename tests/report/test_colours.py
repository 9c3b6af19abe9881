"""Colours of membranes are told apart, by colour-blind readers too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.color import rgb2lab

from cryoscale.report.colours import PALETTE, colour_of, hex_of, tint

# Deuteranopia and protanopia in linear RGB (G. Machado et al., IEEE Trans. Vis. Comput. Graph. 15 (2009) 1291).
_BLIND = {
    "none": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}


def seen_as(matrix: np.ndarray) -> np.ndarray:
    srgb = np.array(PALETTE) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ matrix.T, 0, 1)
    back = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(back[None])[0])


@pytest.mark.parametrize(("kind", "least"), [("none", 25.0), ("deuteranopia", 15.0), ("protanopia", 15.0)])
def test_colours_are_distinct(kind: str, least: float) -> None:
    lab = seen_as(_BLIND[kind])
    pairs = itertools.combinations(range(len(PALETTE)), 2)
    nearest = min((float(np.linalg.norm(lab[a] - lab[b])), a, b) for a, b in pairs)
    assert nearest[0] > least, nearest


def test_numbers_choose_colours_in_turn() -> None:
    assert colour_of(1) == PALETTE[0]
    assert colour_of(len(PALETTE) + 2) == PALETTE[1]
    assert hex_of(colour_of(1)) == "#0072b2"
    with pytest.raises(ValueError, match="from 1"):
        colour_of(0)


def test_inferred_colours_are_paler() -> None:
    colours = np.array(PALETTE, np.float64)
    assert (rgb2lab(tint(colours)[None] / 255)[0, :, 0] > rgb2lab(colours[None] / 255)[0, :, 0] - 1).all()
