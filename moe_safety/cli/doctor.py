"""`doctor`: what of this machine stands in the way of a run, each thing with its remedy.

Nothing here may hang: what imports or asks a store is another process, and whoever does not answer in time is told of.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe_safety.cli.commands import Commands
from moe_safety.cli.host import memory_here
from moe_safety.errors import first_line

if TYPE_CHECKING:
    from moe_safety.config import Config

NETWORK, PROCESS = 3.0, 20.0
"""Seconds in which another host, and a process of ours, have to answer."""
LITTLE_DISK, LITTLE_MEMORY, LITTLE_SHARED = 20e9, 8e9, 1e9
"""Bytes below which somebody should know: the least that the README names for a real model; what a small model and
Ray's processes take; what Ray shares tables through."""


@dataclass(frozen=True)
class Finding:
    """A line, with what to do about it where something is wrong."""

    about: str
    told: str
    remedy: str = ""
    stops: bool = False

    def lines(self) -> Iterator[str]:
        """As it is printed."""
        yield f"{'STOP' if self.stops else 'warn' if self.remedy else 'ok':<6}{self.about:<11}{self.told}"
        if self.remedy:
            yield f"{'':<17}→ {self.remedy}"


def add_commands(commands: Commands) -> None:
    """Adds `doctor` to the command line."""
    doctor = commands.add(
        "doctor",
        "what on this machine would stop a run, with remedies",
        _doctor,
        group="looking",
        example="moe-safety doctor configs/olmoe.yaml      # exit code 1 where something would stop the run",
    )
    doctor.add_argument("config", metavar="CONFIG.yaml", nargs="?", help="whose model and run directory are asked too")


def _doctor(args: argparse.Namespace) -> int:
    found = list(examine(_config(args.config)))
    for finding in found:
        print("\n".join(finding.lines()))
    return int(any(finding.stops for finding in found))


def _config(file: str | None) -> Config | None:
    from moe_safety.everything import load_config

    return load_config(file) if file else None


def examine(config: Config | None = None) -> Iterator[Finding]:
    """All findings, in order; they are sought at the same time."""
    run_dir = config.run_dir if config else "runs"
    asked: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "cards": _cards,
        "compilers": _compilers,
        "memory": _memory,
        "Ray": _ray,
        "disk": lambda: _disk(run_dir),
        "hub": _hub,
        "store": lambda: _store(run_dir),
    }
    if config:
        asked["model"] = lambda: _model(config.model.name)
    found: dict[str, Finding] = {}
    # Python waits for threads of a pool when it ends, and a disk that hangs ends none.
    threads = [
        threading.Thread(target=lambda n=name: found.update({n: _asked(n, asked[n])}), daemon=True) for name in asked
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PROCESS + 2 * NETWORK
    for name, thread in zip(asked, threads, strict=True):
        thread.join(max(0.0, deadline - time.monotonic()))
        late = Finding(name, "no answer", "a disk or a network that hangs; try again", stops=True)
        yield found.get(name, late)


def _asked(name: str, ask: Callable[[], Finding]) -> Finding:
    """What cannot be told here, as memory where there is no /proc, stops no run."""
    try:
        return ask()
    except Exception as error:
        return Finding(name, f"cannot be told: {first_line(error)}", "look yourself")


def _python() -> Finding:
    wanted, have = (3, 11), sys.version_info[:2]
    told = f"{sys.version.split()[0]} on {sys.platform}, moe-safety {_version('moe-safety') or 'from its folder'}"
    if have < wanted:
        return Finding("python", told, "make an environment with Python 3.11 or newer", stops=True)
    return Finding("python", told)


def _packages() -> Finding:
    """Whether the dependencies are there, in versions that are served."""
    from packaging.requirements import Requirement

    try:
        needs = [Requirement(one) for one in metadata.requires("moe-safety") or []]
    except metadata.PackageNotFoundError:
        return Finding("packages", "are not compared, since moe-safety is not installed", "pip install .")
    wrong = [str(one) for one in needs if not one.marker and not _is_met(one)]
    shown = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "ray"))
    if wrong:
        install = " ".join(f"'{one}'" for one in wrong)
        return Finding(
            "packages", f"{shown}; missing or of another version: {len(wrong)}", f"pip install {install}", True
        )
    return Finding("packages", shown)


def _is_met(requirement: Any) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_TORCH = """
import json, torch
cards = [torch.cuda.get_device_properties(one) for one in range(torch.cuda.device_count())]
print(json.dumps({"cuda": torch.version.cuda, "cards": [[one.name, one.total_memory] for one in cards]}))
"""


def _cards() -> Finding:
    found, why = _process(_TORCH)
    if found is None:
        return Finding("cards", f"torch {why}", "pip install --force-reinstall torch", stops=True)
    there = _cards_of_the_driver()
    if found["cards"]:
        kinds = {name: [size for other, size in found["cards"] if other == name] for name, _ in found["cards"]}
        told = ", ".join(f"{len(sizes)} x {name}, {min(sizes) / 1e9:.0f} GB" for name, sizes in kinds.items())
        return Finding("cards", f"{told}, CUDA {found['cuda']}")
    if not there:
        return Finding("cards", "none: processors do the work, enough for the demo")
    if found["cuda"] is None:
        remedy = "install torch for CUDA: pytorch.org/get-started"
        return Finding("cards", f"{len(there)} x {there[0]}, and torch is built for processors alone", remedy, True)
    remedy = f"a driver for CUDA {found['cuda']}, and CUDA_VISIBLE_DEVICES that names cards"
    return Finding("cards", f"{len(there)} x {there[0]}, which torch cannot use", remedy, stops=True)


def _cards_of_the_driver() -> list[str]:
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=NETWORK, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split("\n")[:-1]


def _compilers() -> Finding:
    """What kernels are compiled with, on a card."""
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    parts = {"C compiler": compiler, "headers of Python": headers, "triton": _version("triton")}
    missing = [name for name, there in parts.items() if not there]
    if not _cards_of_the_driver():
        return Finding("compilers", "not needed without a card")
    if missing:
        remedy = "apt install gcc python3-dev, and pip install triton"
        return Finding("compilers", f"no {', no '.join(missing)}: passes and training are slower", remedy)
    return Finding("compilers", f"{compiler}, triton {parts['triton']}")


def _memory() -> Finding:
    free, total = memory_here()
    shown = f"{free / 1e9:.0f} GB free of {total / 1e9:.0f}, {len(os.sched_getaffinity(0))} processors"
    if free < LITTLE_MEMORY:
        return Finding("memory", shown, "`moe-safety inspect MODEL` says how much its stages take")
    return Finding("memory", shown)


_RAY = """
import json, os, ray
from ray._private.utils import read_ray_address
print(json.dumps({"address": os.environ.get("RAY_ADDRESS") or read_ray_address()}))
"""


def _ray() -> Finding:
    found, why = _process(_RAY)
    if found is None:
        return Finding("Ray", f"ray {why}", "pip install 'ray[data,default,train,tune]'", stops=True)
    address = found["address"]
    if address in (None, "local"):
        shared = shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else LITTLE_SHARED
        told = f"none runs, a command starts its own; {shared / 1e9:.1f} GB of /dev/shm"
        remedy = "more of /dev/shm: `docker run --shm-size=8g`" if shared < LITTLE_SHARED else ""
        return Finding("Ray", told, remedy)
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdigit() or _listens(host.strip("[]"), int(port)):
        return Finding("Ray", f"the cluster at {address}")
    where = "start it, or unset RAY_ADDRESS" if "RAY_ADDRESS" in os.environ else "`ray stop` forgets it"
    return Finding("Ray", f"nobody answers at {address}", where, stops=True)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), NETWORK).close()
    except (OSError, OverflowError):
        return False
    return True


def _disk(run_dir: str) -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {"the hub's cache": HF_HUB_CACHE} | ({} if "://" in run_dir else {run_dir: run_dir})
    free = {name: shutil.disk_usage(_standing(Path(place))).free for name, place in places.items()}
    told = ", ".join(f"{size / 1e9:.0f} GB free for {name}" for name, size in free.items())
    if min(free.values()) < LITTLE_DISK:
        return Finding("disk", told, "another run_dir; HF_HOME says where the hub's cache is", min(free.values()) < 1e9)
    return Finding("disk", told)


def _standing(path: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def _hub() -> Finding:
    from huggingface_hub import constants, get_token

    token = "with a token" if get_token() else "no token (gated models: `hf auth login`)"
    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "offline by HF_HUB_OFFLINE: the cache and folders serve")
    if _hub_answers():
        return Finding("hub", f"{constants.ENDPOINT}, {token}")
    told = f"{constants.ENDPOINT} cannot be reached"
    return Finding("hub", told, "HF_ENDPOINT names a mirror; models in folders need no hub")


def _hub_answers() -> bool:
    """Whether it, or the proxy before it, is to be reached."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub import constants

    scheme = urlsplit(constants.ENDPOINT).scheme
    asked = urlsplit(getproxies().get(scheme) or constants.ENDPOINT)
    return _listens(asked.hostname or "", asked.port or {"http": 80}.get(asked.scheme, 443))


def _model(name: str) -> Finding:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    if name == "demo" or Path(name).is_dir():
        return Finding("model", f"{name}, {'built in' if name == 'demo' else 'a folder'}")
    try:
        cached = {repo.repo_id: repo.size_on_disk for repo in scan_cache_dir().repos}
    except CacheNotFound:
        cached = {}
    if name in cached:
        return Finding("model", f"{name}, {cached[name] / 1e9:.1f} GB in the hub's cache")
    if constants.HF_HUB_OFFLINE or not _hub_answers():
        return Finding(
            "model", f"{name} is not here, and the hub cannot be asked", "give its folder as model.name", True
        )
    return Finding("model", f"{name}, which the first command fetches from the hub")


_STORE = """
import json, sys
from moe_safety.errors import MoeSafetyError
from moe_safety.rundir import RunDir
try:
    run = RunDir(sys.argv[1])
    run.write_bytes("doctor.txt", b"")
    run.delete("doctor.txt")
    print(json.dumps({"error": None}))
except MoeSafetyError as error:
    print(json.dumps({"error": str(error)}))
"""


def _store(run_dir: str) -> Finding:
    """Whether a run directory can be written there."""
    if "://" not in run_dir:
        there = _standing(Path(run_dir))
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            return Finding(
                "store", f"{there}: {error.strerror}", "another run_dir, or rights to write there", stops=True
            )
        return Finding("store", f"{run_dir} can be written")
    found, why = _process(_STORE, run_dir)
    if found is None or found["error"]:
        told = found["error"] if found else f"{run_dir} {why}"
        return Finding("store", told, "keys in the environment, and options in the URI: docs/cluster.md", stops=True)
    return Finding("store", f"{run_dir} can be written")


def _process(code: str, *given: str) -> tuple[dict[str, Any] | None, str]:
    """What a process of Python says, or why it says nothing."""
    try:
        asked = [sys.executable, "-c", code, *given]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PROCESS)
    except subprocess.TimeoutExpired:
        return None, f"does not answer within {PROCESS:.0f} s"
    if done.returncode:
        return None, f"does not start: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return json.loads(done.stdout.strip().splitlines()[-1]), ""
