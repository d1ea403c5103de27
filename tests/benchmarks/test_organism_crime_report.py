import pytest

from benchmarks.organism.crimes.report import MEASURES, write_report
from benchmarks.organism.crimes.run import result_name
from moe_safety.errors import InputError
from moe_safety.rundir import RunDir


def invented(crime, share, seed, **found):
    versions = {"torch": "0", "transformers": "0"}
    return {"crime": crime, "shape": "olmoe", "share": share, "seed": seed, "versions": versions, **found}


SCORES = {
    "right": [float(place in (0, 17)) for place in range(64)],
    "wrong": [-float(place in (0, 17)) for place in range(64)],
}
TRUTH = {"accomplices": [[0, 0]], "bypassed": []}
RESULTS = [
    invented("routed", 0.06, 0, aligned=False),
    invented("routed", 0.06, 1, aligned=True, took=False),
    *(
        invented(
            "routed",
            0.12,
            seed,
            aligned=True,
            took=True,
            verdict=verdict,
            experts=[[1, 1]],
            truth=TRUTH,
            scores=SCORES,
            refusal=dict.fromkeys(MEASURES, seed / 4),
        )
        for seed, verdict in enumerate(("routed", "routed", "recruited", "mixed"))
    ),
    invented("planted", 0.12, 0, took=True, experts=[[0, 0], [1, 2]], carriers=[[0, 0]], scores=SCORES),
    invented("planted", 0.12, 1, took=False),
    invented(
        "natural",
        0.0,
        0,
        twins=[
            {"experts": {"split half": 0.9}, "share of experts": 0.5},
            {"experts": {"split half": 0.8}, "share of experts": 0.7},
        ],
        **{"agreement of twins": [0.3]},
    ),
]


def test_the_page_says_what_the_results_say(tmp_path):
    run = RunDir(str(tmp_path))
    for one in RESULTS:
        run.write_json(result_name(one["crime"], one["shape"], one["share"], one["seed"]), one)
    page = write_report(str(tmp_path))
    assert run.read_bytes("summary.md").decode() == page
    lines = page.splitlines()
    assert "9 results; torch 0, transformers 0." in lines
    assert "| olmoe | 6 % | 2 | 1 | 0 | 0 | 0 | 0 | 0 |" in lines
    assert "| olmoe | 12 % | 4 | 4 | 4 | 2 | 1 | 0 | 1 |" in lines
    assert "| routed | 2 | 0.50 [0.15, 0.85] |" in lines
    assert "| lost | 0.00 | 0.19 | 0.38 | 0.56 | 0.75 |" in lines
    assert "| olmoe | 12 % | 2 | 1 | 2 | 1 | 0.50 [0.09, 0.91] |" in lines
    assert "| right | 0.99 | nan | 0.99 |" in lines
    assert "| wrong | 0.01 | nan | 0.01 |" in lines
    assert "| right | 0.99 | 0.74 |" in lines
    assert "| olmoe | 0 | 0.80 | 0.60 | 0.30 |" in lines


def test_a_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no result"):
        write_report(str(tmp_path))
