"""What this host has."""

from __future__ import annotations

from pathlib import Path


def memory_here() -> tuple[int, int]:
    """Bytes of memory that are free, and all, as far as this process may have them."""
    told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = [int(told[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal")]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (allowed := limit.read_text().strip()).isdigit():
        sizes = [min(size, int(allowed)) for size in sizes]
    return sizes[0], sizes[1]
