"""The losses of expert phases, a file each."""
