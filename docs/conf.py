"""How Sphinx makes a site of the documents, where they stand and as they are: `make site`.

MkDocs is hardly kept any more, and reads a folder of its own; what follows it is young.
"""

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "moe-safety"
html_title = project
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "examples/*.md", "examples/*/*.md"]
exclude_patterns = [".venv"]
myst_heading_anchors = 4  # Named as on GitHub.
html_theme = "furo"
html_show_copyright = False


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Pages in the order in which the index of docs/ names them, at the side of every page."""
    if name == root_doc:
        named = re.findall(r"\]\(([\w./]+)\.md\)", (ROOT / "docs" / "README.md").read_text())
        pages = ["docs/README", *(f"docs/{page}".replace("docs/../", "") for page in dict.fromkeys(named))]
        source[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def begin_at_the_readme(app: Sphinx, error: Exception | None) -> None:
    """What a server shows first."""
    if not error:
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", begin_at_the_readme)
