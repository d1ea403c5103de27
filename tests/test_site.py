"""The documents as a site: it builds with nothing from elsewhere, and not where a link or an anchor leads nowhere."""

import re
import subprocess
import sys

from tests.documents import EXAMPLES, PAGES, ROOT


def build(source, target):
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-c", ROOT / "docs"]
    return subprocess.run([*command, source, target], capture_output=True, text=True)


def test_the_site_is_whole_and_asks_no_other_place(tmp_path):
    done = build(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    for page in ("index.md", *PAGES, *EXAMPLES):
        text = (tmp_path / page).with_suffix(".html").read_text()
        assert not re.search(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(?:https?:)?//", text), page


def test_a_link_and_an_anchor_that_lead_nowhere_end_it(tmp_path):
    (tmp_path / "README.md").write_text("# A\n\n[b](docs/nowhere.md) [c](docs/there.md#nowhere) [d](docs/there.md#b)\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "there.md").write_text("# B\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "nowhere.md" in done.stderr
    assert "#nowhere" in done.stderr or "'nowhere'" in done.stderr
    assert "'b'" not in done.stderr
