"""Locate: touching proteins taken apart, where their radius is known.

    x <- sum_i w(|x - x_i|) x_i / sum_i w(|x - x_i|),   w(d) = exp(-2 d^2 / radius^2)

Proteins are components of protein voxels; a component larger than one protein can be is shifted to the densest places
of its voxels, one for each protein. The files: `meanshift` (one component), `plan` (units of work).
"""

from cryoscale.locate.meanshift import assign, modes

__all__ = ["assign", "modes"]
