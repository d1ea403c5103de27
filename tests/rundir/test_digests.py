"""Digests that are remembered: hashed once, and never of what a file was before."""

import hashlib
import os

import pytest

from moe_safety.rundir import RunDir, digests, file_digest, remember_digest, remembered

SIZE = 9 << 20


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """The files that were read to be hashed, in order."""
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    seen, honest = [], digests._hashed
    monkeypatch.setattr(digests, "_hashed", lambda file: seen.append(file.name) or honest(file))
    return seen


def large(path, letter):
    path.write_bytes(letter * SIZE)
    return hashlib.sha256(letter * SIZE).hexdigest()


def test_a_large_file_is_read_once(tmp_path, hashed):
    expected = large(tmp_path / "large", b"1")
    assert [file_digest(tmp_path / "large") for _ in range(3)] == [expected] * 3
    assert hashed == ["large"]


def test_a_changed_file_is_another_one_at_once(tmp_path, hashed):
    """Of the same size, with the time of the last writing set back: in place, and by another in its place."""
    file = tmp_path / "large"
    first = large(file, b"1")
    assert file_digest(file) == first
    times = os.stat(file)
    with open(file, "r+b") as stream:
        stream.write(b"2")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    second = file_digest(file)
    assert second == hashlib.sha256(b"2" + b"1" * (SIZE - 1)).hexdigest()
    third = large(tmp_path / "other", b"3")
    os.replace(tmp_path / "other", file)
    assert file_digest(file) == third


def test_what_the_writer_says_is_believed_until_the_file_changes(tmp_path, hashed):
    file = tmp_path / "large"
    expected = large(file, b"1")
    remember_digest(file, expected)
    assert file_digest(file) == expected
    assert hashed == []
    changed = large(file, b"2")
    assert file_digest(file) == changed
    assert hashed == ["large"]


def test_a_change_just_behind_the_writer_shows(tmp_path, hashed):
    """Times stand still for a moment, so what is remembered waits until a later change has another time."""
    for turn in range(20):
        file = tmp_path / f"large-{turn}"
        remember_digest(file, large(file, b"1"))
        with open(file, "r+b") as stream:
            stream.write(b"2")
        assert file_digest(file) == hashlib.sha256(b"2" + b"1" * (SIZE - 1)).hexdigest()


def test_a_link_is_known_by_both_names(tmp_path, hashed):
    run = RunDir(str(tmp_path / "run"))
    os.makedirs(run.path("one"))
    expected = large(tmp_path / "run" / "one" / "file", b"1")
    assert run.digest("one/file") == expected
    run.link("one/file", "two/file")
    assert run.digests(["one/file", "two/file"]) == dict.fromkeys(["one/file", "two/file"], expected)
    assert hashed == ["file"]
    assert os.path.samefile(run.path("one/file"), run.path("two/file"))


def test_kinds_are_kept_apart_and_a_torn_note_is_made_anew(tmp_path, hashed):
    file = tmp_path / "large"
    expected = large(file, b"1")
    assert remembered(file, "sizes", lambda real: real.stat().st_size) == SIZE
    assert file_digest(file) == expected
    (note,) = (tmp_path / "cache" / "digests").iterdir()
    note.write_text("{")
    assert file_digest(file) == expected
    assert remembered(file, "sizes", lambda real: 0) == SIZE


def test_without_a_place_to_remember_it_is_hashed_again(tmp_path, hashed, monkeypatch):
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "no folder"))
    expected = large(tmp_path / "large", b"1")
    assert [file_digest(tmp_path / "large") for _ in range(2)] == [expected] * 2
    assert hashed == ["large", "large"]
