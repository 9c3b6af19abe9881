"""Ingest: any volume a user has becomes chunked, checksummed OME-Zarr with a pyramid.

``values.py`` has the kernels (finite values, statistics by slice, halving), ``plan.py`` the units. What is refused or
asked for, and why, is decided in `cryoscale.io` (mrcheader, tiff, source, voxelsize) and, for values, in the plan.
"""
