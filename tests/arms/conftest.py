import sys

import pytest

from moe_safety.arms import ARMS, LOSSES
from tests.arms.outside import install


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """The package with the arm `preferred` is installed, as if it had been when this process began."""

    def forget():
        for registry in (ARMS, LOSSES):
            vars(registry).pop("_plugins", None)
            registry._brought.clear()
        sys.modules.pop("brought_arm", None)

    install(tmp_path / "packages", monkeypatch)
    forget()
    yield
    monkeypatch.undo()
    forget()
