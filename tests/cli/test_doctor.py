"""`doctor`: what stands in the way of a run, with remedies, and never a hang."""

import socket
import time

import pytest

from moe_safety.cli import doctor, main

BARE = {"cuda": None, "cards": [], "address": None}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which all is well, without cards and without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    said = dict(BARE)
    monkeypatch.setattr(doctor, "_process", lambda code, *given: (said, ""))
    return said


def told(capsys, *argv):
    code = main(["doctor", *map(str, argv)])
    return code, capsys.readouterr().out


def test_a_machine_on_which_all_is_well_is_told_in_ten_lines(machine, capsys):
    code, said = told(capsys)
    lines = [line for line in said.splitlines() if line[0] != " "]
    assert code == 0
    assert len(lines) <= 10
    assert max(map(len, said.splitlines())) <= 80
    assert [line.split()[1] for line in lines][:6] == ["python", "packages", "cards", "compilers", "memory", "Ray"]


def test_what_stops_a_run_has_its_remedy_and_decides_the_exit_code(machine, capsys, monkeypatch, tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        machine["address"] = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", machine["address"])
        code, said = told(capsys)
    assert code == 1
    assert f"STOP  Ray        nobody answers at {machine['address']}\n" in said
    assert "→ start it, or unset RAY_ADDRESS" in said
    (tmp_path / "file").touch()
    assert doctor._store(str(tmp_path / "file" / "run")).stops
    assert not doctor._store(str(tmp_path / "new" / "run")).stops


def test_cards_that_torch_cannot_use_stop_a_run(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_cards_of_the_driver", lambda: ["NVIDIA H200"] * 2)
    assert "built for processors alone" in doctor._cards().told
    machine["cuda"] = "13.0"
    assert doctor._cards().stops
    machine["cards"] = [["NVIDIA H200", 150_000_000_000]] * 2
    assert doctor._cards() == doctor.Finding("cards", "2 x NVIDIA H200, 150 GB, CUDA 13.0")
    assert "slower" in doctor._compilers().told
    assert not doctor._compilers().stops


def test_the_model_of_a_configuration_is_looked_for(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_listens", lambda host, port: False)
    assert doctor._model("demo").told == "demo, built in"
    assert doctor._model(str(tmp_path)).told.endswith(", a folder")
    assert doctor._model("nobody/has-this").stops


def test_what_hangs_is_told_of(machine, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "PROCESS", 0.2)
    monkeypatch.setattr(doctor, "NETWORK", 0.1)
    monkeypatch.setattr(doctor, "_disk", lambda run_dir: time.sleep(60))
    begun = time.monotonic()
    code, said = told(capsys)
    assert code == 1
    assert "STOP  disk       no answer" in said
    assert time.monotonic() - begun < 20


def test_what_cannot_be_told_here_is_neither_a_hang_nor_a_stop(machine, capsys, monkeypatch):
    def missing():
        raise FileNotFoundError("no /proc/meminfo")

    monkeypatch.setattr(doctor, "_memory", missing)
    code, said = told(capsys)
    assert code == 0
    assert "warn  memory     cannot be told: no /proc/meminfo\n" in said


def test_a_process_that_hangs_or_fails_is_ended_and_told_of(monkeypatch):
    monkeypatch.setattr(doctor, "PROCESS", 0.5)
    assert doctor._process("import time; time.sleep(60)") == (None, "does not answer within 0 s")
    monkeypatch.setattr(doctor, "PROCESS", 60.0)
    assert doctor._process("raise OSError('no such library')") == (None, "does not start: OSError: no such library")
    assert doctor._process("print('a warning'); print('{\"cards\": []}')") == ({"cards": []}, "")
