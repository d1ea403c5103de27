import os
import time

import pytest

from moe_safety.errors import InputError
from moe_safety.models.io.fingerprint import check_reachable, fingerprint, local_folder


def test_a_file_of_the_same_size_and_time_is_another_model(tmp_path, monkeypatch):
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    file = model / "model.safetensors"
    file.write_bytes(b"1" * (2 << 20))
    first, times = fingerprint(str(model), None), os.stat(file)
    assert fingerprint(str(model), None) == first
    file.write_bytes(b"2" * (2 << 20))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(str(model), None) != first


@pytest.mark.parametrize("ask", [local_folder, check_reachable])
def test_a_hub_that_cannot_be_reached_is_said_at_once(tmp_path, monkeypatch, ask):
    """Of an unknown repository: one try, where transformers would make six."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(InputError, match=r"nobody/zorp, model\.name: .*not in the hub's cache, and the hub cannot be"):
        ask("nobody/zorp", None)
    assert time.monotonic() - started < 15
