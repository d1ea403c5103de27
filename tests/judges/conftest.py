import pytest

from tests.judges import endpoint, handmade


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An endpoint with its key in the environment, and a cache that is empty."""
    monkeypatch.setenv("MOE_SAFETY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUDGE_KEY", "sk-nonsense-key")
    with endpoint.running() as running:
        yield running


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of judges made by hand, by kind."""
    folder = tmp_path_factory.mktemp("judges")
    return {kind: getattr(handmade, kind)(folder / kind) for kind in ("generative", "classifier")}
