"""What running out of memory looks like, on a processor."""

import errno
import os

import pytest

from moe_safety.jobs.memory import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("unable to mmap 1493921352 bytes from file <m.safetensors>: Cannot allocate memory (12)"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), True),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), False),
        (RuntimeError("shapes differ"), False),
        (ValueError("Cannot allocate memory"), False),
    ],
)
def test_memory_that_ran_out_is_known_by_what_is_raised(error, told):
    assert is_out_of_memory(error) is told
