"""The distributed stages as jobs: what `ray job submit` runs, a file each."""
