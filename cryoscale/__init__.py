"""cryoscale."""
