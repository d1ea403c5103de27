"""What a sweep says on its way and at its end."""

from types import SimpleNamespace

from moe_safety.cli.ending import lines_of_sweep, took_lines
from moe_safety.rundir import RunDir
from moe_safety.tune.printing import print_summary
from moe_safety.tune.records import Record, Records, work_of
from moe_safety.tune.runner import Trials
from tests.tune.sweeps import finished, sweep_of

POINTS = [{"identify.top_k": k, "train.masking": '"union"'} for k in (2, 3, 4, 5)]
MEASURED = {"safety_score": 0.9, "asr": 0.1, "over_refusal": 0.0}


def test_it_says_the_trials_of_all_the_best_so_far_and_the_time_left(tmp_path):
    sweep, records = sweep_of(), Records(RunDir(str(tmp_path)), "tune/small")
    known = {record.id: record for record in [finished(POINTS[0], MEASURED), Record(POINTS[1])]}
    progress = Trials(sweep, records, known, left=3)
    progress.started = 0.0
    assert progress.line(60.0) == (
        "1/4 trials; best so far safety_score 0.900 (identify.top_k 2, train.masking union); "
        "identify.top_k 3, train.masking union: at work"
    )
    reached = {"phase": "working", "step": 5, "steps": 10, "made": 5, "tokens": 500, "seconds": 5.0}
    records.run.write_json(f"{work_of('tune/small', POINTS[1])}/reached.json", reached)
    better = finished(POINTS[2], MEASURED | {"safety_score": 0.95})
    known[better.id] = better
    line = progress.line(60.0)
    assert line.startswith("2/4 trials; best so far safety_score 0.950 (identify.top_k 4,")
    # One of the three that are left and half another took a minute.
    assert line.endswith(
        "; identify.top_k 3, train.masking union: step 5/10, 100 tokens/s, 5.0 s left; 60 s left in all"
    )


def test_at_its_end_it_says_what_took_how_long_and_what_comes_next(tmp_path, capsys):
    file = SimpleNamespace(name="small", sweep=sweep_of(), config=SimpleNamespace(run_dir=str(tmp_path)))
    Records(RunDir(str(tmp_path)), "tune/small").write(finished(POINTS[0], MEASURED))
    counts = {"trials": 1, "finished": 1, "stopped": 0, "failed": 0}
    for skipped, lines in ((False, 2), (True, 1)):
        print_summary(file, {"summary": counts, "skipped": skipped})
        said = capsys.readouterr().out.splitlines()
        assert len(said) == lines
        assert said[0] == "tune: 1 trials: 1 finished" + " (unchanged)" * skipped
    took = {"seconds": 40.0, "driver": {"waiting": 30.0}, "replicas": {}}
    assert list(took_lines({"tune": {"skipped": False, "took": took}})) == ["tune took          40 s  waiting 30.0"]
    assert list(lines_of_sweep(file)) == [
        f"next: moe-safety run {tmp_path}/tune/small/best.yaml",
        f"look at: {tmp_path}/tune/small/results.parquet",
    ]
