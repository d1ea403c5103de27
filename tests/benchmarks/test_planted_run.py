import numpy as np
import pytest

from benchmarks.planted.report import write_report
from benchmarks.planted.run import SHARES, result_name, run_all
from benchmarks.planted.scores import FAMILIES
from moe_safety.errors import InputError
from moe_safety.rundir import RunDir

NAMES = [name for scores in FAMILIES.values() for name in scores]
PERFECT, WORST = "conditional effect", "gradient"


def invented(shape, seed):
    """A result in which one score is always right, one always wrong, and the others know nothing."""
    generator = np.random.default_rng([seed, len(shape)])
    plantings = []
    for share in SHARES:
        guilty = np.zeros(64, bool)
        guilty[generator.choice(64, round(64 * share), replace=False)] = True
        scores = {name: generator.random(64) for name in NAMES}
        scores |= {PERFECT: guilty + scores[PERFECT] / 2, WORST: scores[WORST] / 2 - guilty}
        put_back = [bin(subset).count("1") for subset in range(1 << guilty.sum())]
        plantings.append(
            {
                "share": share,
                "draw": 0,
                "took": True,
                "guilty": guilty.tolist(),
                "scores": {name: values.tolist() for name, values in scores.items()},
                "success": [1 - count / guilty.sum() for count in put_back],
                "seconds": {"plant": 1.0},
            }
        )
    # One that did not take counts among those that were tried, and nowhere else.
    plantings.append({"share": 0.12, "draw": 2, "took": False, "seconds": {"plant": 9.0}})
    versions = {"torch": "0", "transformers": "0"}
    return {"shape": shape, "seed": seed, "versions": versions, "plantings": plantings, "seconds": {"safe model": 2.0}}


def test_a_result_that_stands_is_not_computed_again(tmp_path):
    run = RunDir(str(tmp_path))
    run.write_bytes(result_name(3, "olmoe"), b"as it was")
    run_all(str(tmp_path), ["olmoe"], [3], workers=1)
    assert run.read_bytes(result_name(3, "olmoe")) == b"as it was"
    assert run.names("results") == [result_name(3, "olmoe")]


def test_the_report_says_what_the_results_say(tmp_path):
    run = RunDir(str(tmp_path / "run"))
    for shape in ("olmoe", "mixtral"):
        for seed in range(4):
            run.write_json(result_name(seed, shape), invented(shape, seed))
    write_report(run.uri, str(tmp_path / "docs"))
    page = (tmp_path / "docs" / "identification.md").read_text()
    assert "$" not in page
    assert f"The best score by AUROC, over all shares, is **{PERFECT}**" in page
    assert "- AUROC 1.00 [1.00, 1.00], 1.00 [1.00, 1.00] and 1.00 [1.00, 1.00]; at least 0.85" in page
    assert "Of 32 plantings 24 took" in page
    assert page.count("is the goal: met") == 2
    assert f"| {WORST} (no better than chance) | 0.00 [0.00, 0.00]" in page
    assert f"| **{PERFECT}** | effect |" in page
    for name in ("auroc", "reset"):
        picture = tmp_path / "docs" / "images" / f"identification_{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"(images/identification_{name}.png)" in page


def test_a_report_of_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no result"):
        write_report(str(tmp_path), str(tmp_path / "docs"))
