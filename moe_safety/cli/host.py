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


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16; others imitate them, several times as slowly as
    they multiply float32. One that does not say what it has is taken to have them."""
    try:
        told = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return True
    return not {"flags", "Features"} & {*told} or not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(told)
