import os

from moe_safety.models.fingerprint import fingerprint


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
