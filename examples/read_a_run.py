"""Loads what a run left with pandas, and plots it: python examples/read_a_run.py runs/demo [OUT.png]"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

TOP = 15


def main(run_dir: str, out: str = "experts.png") -> None:
    run = Path(run_dir)
    experts = pd.read_parquet(run / "risk_diff.parquet")
    selection = json.loads((run / "selection.json").read_text())
    selected = {tuple(pair) for pair in selection["global"]}
    print(f"{len(experts)} experts, {len(selected)} selected by {selection['method']}")

    best = experts[experts["risk_diff"] > 0].nlargest(TOP, "risk_diff").reset_index()
    names = [f"L{row.layer:02d}_E{row.expert:02d}" for row in best.itertuples()]
    print(best.assign(name=names)[["name", "risk_diff", "low", "high", "q_value"]].to_string(index=False))

    figure, axes = plt.subplots(figsize=(8, 4))
    colors = ["tab:red" if (row.layer, row.expert) in selected else "tab:gray" for row in best.itertuples()]
    error = [best["risk_diff"] - best["low"], best["high"] - best["risk_diff"]]
    axes.bar(names, best["risk_diff"], yerr=error, color=colors)
    axes.set_ylabel("risk difference (unsafe minus safe)")
    axes.set_title("What the attack reaches more than plain goals do; selected experts are red")
    axes.tick_params(axis="x", rotation=60)
    figure.tight_layout()
    figure.savefig(out)
    print(f"written: {out}")

    comparison = run / "comparison.json"
    if comparison.exists():
        arms = json.loads(comparison.read_text())
        rates = {arm["arm"]: {name: arm[name]["value"] for name in ("asr", "over_refusal")} for arm in arms}
        print(pd.DataFrame(rates).T.to_string())


if __name__ == "__main__":
    main(*sys.argv[1:3])
