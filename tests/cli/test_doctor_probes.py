"""`doctor` asks real things: a hub, a store, ports, disks, compilers, and processes of its own."""

import os
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from moe_safety.cli import doctor, main
from tests.objectstore import SECRETS, serving


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a busy machine a process takes long to import torch."""
    monkeypatch.setattr(doctor, "PROCESS", 240.0)


@pytest.fixture
def hub(monkeypatch):
    """The address of one, on this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent():
    """An address where nobody answers."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{nobody.getsockname()[1]}"


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """All that is on the path: a driver that tells of a card."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA H200\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    return folder


def test_all_that_is_wrong_with_a_machine_is_told_at_once(hub, silent, tools, monkeypatch, tmp_path, capsys):
    """Processes that import torch and Ray, and write to a store, as a command would."""
    monkeypatch.setenv("RAY_ADDRESS", silent)
    config = tmp_path / "run.yaml"
    with pytest.MonkeyPatch.context() as environment, serving(environment) as uri:
        given = f"model: {{name: nobody/has-this}}\ndata: {{attacks: [{{path: demo:attacks.json}}]}}\nrun_dir: {uri}\n"
        config.write_text(given)
        assert main(["doctor", str(config)]) == 1
        said = capsys.readouterr().out
        missing = doctor._store(uri.replace("moe-bucket", "no-such-bucket"))
    lines = {line.split()[1]: line for line in said.splitlines() if line[0] != " "}
    assert "1 x NVIDIA H200, and torch is built for processors alone" in lines["cards"]
    assert lines["compilers"].startswith("warn  compilers  no C compiler")
    assert lines["Ray"] == f"STOP  Ray        nobody answers at {silent}"
    assert lines["hub"].startswith(f"ok    hub        {constants.ENDPOINT}, with a token")
    assert lines["store"].startswith("ok    store      s3://moe-bucket/")
    assert lines["model"].endswith("which the first command fetches from the hub")
    assert missing.stops
    assert not any(secret in said + missing.told for secret in SECRETS.values())


def test_a_hub_that_is_gone_is_a_warning_and_a_model_that_is_nowhere_a_stop(hub):
    assert doctor._hub().remedy == ""
    hub.shutdown()
    hub.server_close()
    assert "cannot be reached" in doctor._hub().told
    assert not doctor._hub().stops
    assert doctor._model("nobody/has-this").stops


def test_a_cluster_that_listens_is_there(hub, monkeypatch):
    monkeypatch.setattr(doctor, "_process", lambda code: ({"address": constants.ENDPOINT.removeprefix("http://")}, ""))
    assert doctor._ray().told.startswith("the cluster at 127.0.0.1:")


def test_a_compiler_on_the_path_is_found(tools):
    assert "no C compiler" in doctor._compilers().told
    os.symlink(shutil.which("true", path="/bin:/usr/bin"), tools / "gcc")
    assert "no C compiler" not in doctor._compilers().told


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="these filesystems are Linux's")
def test_disks_without_room_or_rights_stop_a_run(tmp_path):
    """Of /proc no byte is free, and nobody makes a file in /sys, root neither."""
    full = doctor._disk("/proc/run")
    assert "0 GB free for /proc/run" in full.told
    assert full.stops
    barred = doctor._store("/sys/run")
    assert barred.stops
    assert barred.told.startswith("/sys: ")
    assert doctor._store(str(tmp_path / "new" / "run")).told.endswith(" can be written")
