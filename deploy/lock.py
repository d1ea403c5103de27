"""Renews the locks, which hold the version and hashes of all that `make` installs. `make lock` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
LOCK, CUDA = ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu/torch/"
HEAD = "# Written by `make lock`: {}.\n"
ONLY_CUDA = """
[project]
name = "cuda"
version = "0"
requires-python = ">=3.11"
dependencies = ["torch=={}"]

[tool.uv]
environments = ["python_version < '3.13' and sys_platform == 'linux'"]
"""
PLAINER = (
    (" and (sys_platform == 'darwin' or sys_platform == 'linux')", ""),
    ("python_full_version == '3.12.*'", "python_full_version >= '3.12'"),
    (" and python_full_version < '3.13'", ""),
    (" python_full_version < '3.13' and", ""),
    (" ; python_full_version < '3.13' \\", " \\"),
)
"""Conditions that hold wherever a lock is used, and what is resolved for 3.12 alone, for later ones too."""


def blocks(lock: str) -> dict[str, str]:
    """The lines of each package, by name and version."""
    return {block.split()[0]: block for block in re.split(r"^(?=\w)", lock, flags=re.MULTILINE) if "==" in block}


def hashes(block: str) -> list[str]:
    """The hashes of a package's files."""
    return re.findall(r"--hash=(sha256:\w+)", block)


def resolve(folder: Path, *options: str) -> str:
    """The packages that a project needs, for every Python and system that is tested."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "pyproject.toml"]
    options = ("--universal", "--python-version", "3.11", "--generate-hashes", *options)
    done = subprocess.run([*command, *options], cwd=folder, check=True, text=True, stdout=subprocess.PIPE)
    lock = done.stdout
    for said, enough in PLAINER:
        lock = lock.replace(said, enough)
    return lock


def index() -> str:
    """PyTorch's own index of its builds for the CPU, which PyPI does not have; nothing where it is out of reach."""
    try:
        return urlopen(CPU_BUILDS, timeout=30).read().decode()
    except OSError:
        return ""


def with_cpu_builds(lock: str, page: str, before: str) -> str:
    """The lock with the hashes of torch's builds for the CPU on Linux; without the index those that stood before."""
    (torch,) = (name for name in blocks(lock) if name.startswith("torch=="))
    block = blocks(lock)[torch]
    build = re.escape(torch.replace("==", "-")) + r"(?:%2B|\+)cpu-(cp31[12])-\1-manylinux\S*?#(sha256)=(\w{64})"
    found = [f"{kind}:{digest}" for _, kind, digest in re.findall(build, page)]
    found = found or [one for one in hashes(blocks(before).get(torch, "")) if one not in hashes(block)]
    if not found:
        raise SystemExit(f"error: no build of {torch} for the CPU at {CPU_BUILDS}, and none in {LOCK.name}")
    last = f"--hash={hashes(block)[-1]}"
    return lock.replace(block, block.replace(last, last + "".join(f" \\\n    --hash={one}" for one in found)))


def main() -> None:
    """Writes both."""
    lock = with_cpu_builds(resolve(ROOT, "--all-extras", "-c", "constraints.txt"), index(), LOCK.read_text())
    LOCK.write_text(HEAD.format("all that the suite needs, with torch's builds of PyPI and those for the CPU") + lock)
    with tempfile.TemporaryDirectory() as folder:
        version = re.search(r"^torch==(\S+)", lock, re.MULTILINE)[1]
        Path(folder, "pyproject.toml").write_text(ONLY_CUDA.format(version))
        needed = blocks(resolve(Path(folder), "-c", str(LOCK)))
    libraries = [block for name, block in needed.items() if name not in blocks(lock)]
    CUDA.write_text(HEAD.format("what PyPI's torch for Linux needs on top") + "".join(libraries))


if __name__ == "__main__":
    main()
