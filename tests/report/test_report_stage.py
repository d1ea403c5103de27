"""`report` as users run it."""

import base64
import hashlib
import re
import shutil

import pytest

from moe_safety.cli import main
from moe_safety.config import dump_config
from moe_safety.errors import InputError
from moe_safety.report.report import report
from moe_safety.rundir import RunDir


@pytest.fixture
def copied(identified, tmp_path):
    shutil.copytree(identified.run_dir, tmp_path / "run")
    return identified.model_copy(update={"run_dir": str(tmp_path / "run")})


def test_it_is_skipped_when_unchanged_and_made_again_when_not(copied):
    run = RunDir(copied.run_dir)
    assert report(copied)["skipped"] is False
    first = run.read_bytes("report.html")
    assert report(copied)["skipped"] is True
    # A stage that was asked again and found its work done is no change, another result of it is.
    manifest = run.read_json("manifests/identify.json")
    run.write_json("manifests/identify.json", manifest | {"started": 1.0, "finished": 2.0})
    assert report(copied)["skipped"] is True
    selection = run.read_json("selection.json")
    run.write_json("selection.json", selection | {"global": selection["global"][1:]})
    assert report(copied)["skipped"] is False
    assert run.read_bytes("report.html") != first
    run.delete("report.html")
    assert report(copied)["skipped"] is False


def test_the_page_fetches_nothing_and_runs_no_script_but_its_own(copied):
    report(copied)
    page = RunDir(copied.run_dir).read_bytes("report.html").decode()
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not any(mark in page for mark in ("<link", "src=", "@import", "url(", "http://", "https://", "fetch("))


def test_what_a_run_says_is_no_markup(copied):
    run = RunDir(copied.run_dir)
    rows = run.read_json("manifests/respond.json")
    rows["summary"]["dropped"] = {"<script>alert(1)</script>": 3}
    run.write_json("manifests/respond.json", rows)
    report(copied)
    page = run.read_bytes("report.html").decode()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_show_text_is_a_flag_of_the_command(copied, tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(copied))
    assert main(["report", str(file), "--show-text"]) == 0
    assert RunDir(copied.run_dir).read_json("manifests/report.json")["settings"] == {"show_text": True}
    assert "run/report.html" in capsys.readouterr().out
    assert main(["report", str(file)]) == 0
    assert RunDir(copied.run_dir).read_json("manifests/report.json")["settings"] == {"show_text": False}


def test_an_empty_run_directory_has_nothing_to_report(copied, tmp_path):
    with pytest.raises(InputError, match="nothing to report"):
        report(copied.model_copy(update={"run_dir": str(tmp_path / "nowhere")}))
