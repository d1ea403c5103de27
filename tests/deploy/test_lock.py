"""The locks hold all that `make` installs, with hashes, and none of CUDA's libraries but in a lock of their own."""

import re
import tomllib

from deploy.licences import PAGE, locked
from deploy.lock import CUDA, LOCK, ROOT, blocks, hashes, with_cpu_builds

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = blocks(LOCK.read_text())
NAMES = {pinned.partition("==")[0] for pinned in LOCKED}


def named(requirement):
    return re.match(r"[\w-]+", requirement)[0].lower()


def test_every_package_that_is_asked_for_is_locked_as_it_is_pinned():
    wanted = [PROJECT["dependencies"], *EXTRAS.values()]
    asked = {named(one) for group in wanted for one in group} - {PROJECT["name"]}
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {name.lower() for name in pinned} - asked == {"tokenizers"}
    assert asked - {name.lower() for name in pinned} == set()
    assert {f"{name.lower()}=={version}" for name, version in pinned.items()} <= LOCKED.keys()


def test_every_package_has_hashes_and_torch_those_of_its_builds_for_the_cpu():
    cuda = blocks(CUDA.read_text())
    assert all(hashes(block) for block in (LOCKED | cuda).values())
    (torch,) = (block for pinned, block in LOCKED.items() if pinned.startswith("torch=="))
    version = re.search(r"torch==(\S+)", torch)[1]
    built = f'<a href="/whl/cpu/torch-{version}%2Bcpu-{{0}}-{{0}}-manylinux_2_28_x86_64.whl#sha256={{1}}">'
    found = "".join(built.format(python, digest * 64) for python, digest in (("cp311", "a"), ("cp312", "b")))
    added = hashes(blocks(with_cpu_builds(LOCK.read_text(), found, ""))[f"torch=={version}"])
    assert added[-2:] == ["sha256:" + "a" * 64, "sha256:" + "b" * 64]


def test_what_cuda_needs_stands_by_itself():
    names = {pinned.partition("==")[0] for pinned in blocks(CUDA.read_text())}
    assert "nvidia-cublas" in names
    assert not names & NAMES
    assert not [name for name in NAMES if name.startswith(("nvidia", "cuda", "triton"))]


def test_what_is_installed_is_checked_and_nothing_else_comes_along():
    makefile = (ROOT / "Makefile").read_text()
    assert "--no-deps --require-hashes -r .venv/requirements.txt" in makefile
    assert "--no-deps --no-build-isolation -e ." in makefile
    assert len(re.findall(r"\(PIP\) install", makefile)) == 3


def test_every_locked_package_is_on_the_page_of_licences():
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    assert rows.keys() >= set(locked())


def test_every_extra_is_told():
    told = (ROOT / "README.md").read_text() + (ROOT / "docs" / "installing.md").read_text()
    assert [name for name in EXTRAS if f"[{name}]" not in told] == []
