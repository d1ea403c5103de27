"""Checkpoints of a phase: what trains, its optimizer, the step and the log; the frozen base is not copied.

A folder counts when its own marker, written last, names its files and their hashes. Nothing of a checkpoint is read
before the hashes agree.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from moe_safety.errors import InputError, RunError
from moe_safety.rundir import RunDir, spent
from moe_safety.train.engines import Engine
from moe_safety.train.world import World

_KEPT = 2


@dataclass
class Progress:
    """The progress of a phase."""

    step: int = 0
    """Steps done."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """A row for each of them."""


class Checkpoints:
    """The checkpoints of one phase under `folder` of the run directory."""

    def __init__(self, run: RunDir, folder: str, identity: str, world: World) -> None:
        """`identity` stands for everything that decides the phase's steps; another's checkpoints are not read."""
        self.run, self.folder, self.identity, self.world = run, folder, identity, world

    def save(self, progress: Progress, engine: Engine) -> str:
        """Writes a checkpoint and forgets old ones; every worker calls it. Returns its name."""
        name = self._name(progress.step)
        if self.world.rank == 0:
            # What a killed attempt may have left there has no marker.
            self.run.delete_folder(name)
        self.world.wait()
        try:
            with spent("writing"), self.run.filling(name) as local:
                engine.save(local)
            self.world.wait()
            if self.world.rank == 0:
                files = self.run.digests(self.run.files(name))
                self.run.write_json(f"{name}.json", asdict(progress) | {"files": files, "identity": self.identity})
        except RunError as error:
            # On a full disk this makes the room in which the error can be told.
            self.run.delete_folder(name)
            raise RunError(f"{error}, last checkpoint: {self.latest()}") from error
        if self.world.rank == 0:
            for marker in self._markers()[:-_KEPT]:
                self._forget(marker)
        self.world.wait()
        return name

    def load_latest(self, engine: Engine) -> Progress:
        """The newest whole checkpoint, or a fresh start. Worker 0 chooses: another might see a folder as it was."""
        step = self.world.first([self._choose() if self.world.rank == 0 else 0])[0]
        if step == 0:
            return Progress()
        name = self._name(int(step))
        stored = self._stored(f"{name}.json")
        if stored is None:
            raise RunError(f"{self.run.path(name)}: worker {self.world.rank} does not see the checkpoint")
        with self.run.reading(name) as local:
            engine.load(local)
        return Progress(stored["step"], stored["log"])

    def _choose(self) -> int:
        """The step of the newest checkpoint that can be gone on from; 0 for none. Those passed over are forgotten:
        being newer, they would outlive every one that is yet to come."""
        for marker in reversed(self._markers()):
            stored = self._stored(marker)
            if stored is not None and stored["identity"] == self.identity and self._whole(stored["files"]):
                return stored["step"]
            self._forget(marker)
        return 0

    def _name(self, step: int) -> str:
        return f"{self.folder}/step-{step:08d}"

    def latest(self) -> str:
        """The newest one's path, for a message."""
        markers = self._markers()
        return self.run.path(markers[-1].removesuffix(".json")) if markers else "none"

    def clear(self) -> None:
        """All of them; the phase is done."""
        for marker in self._markers():
            self._forget(marker)
        # And what has no marker: writing it was interrupted.
        self.run.delete_folder(self.folder)

    def _markers(self) -> list[str]:
        return self.run.names(self.folder, ".json")

    def _stored(self, marker: str) -> dict[str, Any] | None:
        """None where it cannot be read."""
        try:
            return self.run.read_json(marker)
        except InputError:
            return None

    def _whole(self, files: dict[str, str]) -> bool:
        return all(map(self.run.exists, files)) and self.run.digests(files) == files

    def _forget(self, marker: str) -> None:
        # The marker goes first: it must never vouch for files that are gone.
        self.run.delete(marker)
        self.run.delete_folder(marker.removesuffix(".json"))
