"""Packages of others, as if they were installed."""

import sys
from importlib.metadata import entry_points


def bring(registry, folder, monkeypatch, module, code, **points):
    """Installs a package of one module, whose declarations `points` names, for as long as the test lasts."""
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
    lines = [f"{name} = {module}:{attribute}" for name, attribute in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.group}]", *lines]))
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, module, raising=False)
    # What it has found and loaded it keeps.
    found = {point.name: point for point in entry_points(group=registry.group)}
    monkeypatch.setitem(vars(registry), "_plugins", found)
    monkeypatch.setattr(registry, "_brought", {})
