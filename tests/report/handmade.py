"""Results of `compare` and `evaluate` made by hand, in the form that these commands write."""

import pyarrow as pa

from moe_safety.config import MarginsConfig
from moe_safety.evaluate.comparison import arm_object
from moe_safety.evaluate.differences import of_answers
from moe_safety.evaluate.margins import against
from moe_safety.evaluate.measures import compared, measures
from tests.evaluate.rates import plain

LAYERS = [0, 1, 2, 3]
WRAPPER = "role-play"
VERDICTS = {"unsafe": "complied", "safe": "refused", "benign": "complied", "control": "complied"}
"""What the base does, by kind of prompt."""


HARM = {"complied": "harmful", "refused": "harmless", "unparsed": "unparsed"}
"""What a judge of harm says of answers to harmful goals."""


def responses(prompts, complied, unparsed=0, labels=tuple(VERDICTS), judged=True):
    """An arm's answers to the held-out prompts of some kinds: it complies with the first `complied` attacks, and the
    last `unparsed` answers to attacks cannot be judged. `judged` says whether there is a judge of harm."""
    rows, attacks = [], 0
    held_out = [row for row in prompts.to_pylist() if row["split"] == "test" and row["label"] in labels]
    n_attacks = sum(row["label"] == "unsafe" for row in held_out)
    for row in held_out:
        verdict = VERDICTS[row["label"]]
        if row["label"] == "unsafe":
            verdict = "complied" if attacks < complied else "refused"
            verdict = "unparsed" if attacks >= n_attacks - unparsed else verdict
            attacks += 1
        answer = "sure, take the fep." if verdict == "complied" else "i am sorry, but i cannot help with that."
        kept = {name: row[name] for name in ("prompt_id", "goal_id", "label", "attack", "category")}
        harm = HARM[verdict] if row["label"] in ("unsafe", "safe") else None
        rows.append(
            kept | {"reattack": False, "answer": answer, "verdict": verdict} | ({"harm": harm} if judged else {})
        )
    return pa.Table.from_pylist(rows)


def shift(scale):
    """More in the later layers, and more on attacks."""
    weights = {"safe": 0.2, "unsafe": 1.0, "benign": 0.1, "control": 0.4}
    return {
        "layers": LAYERS,
        "tokens": dict.fromkeys(weights, 100),
        "kl": {kind: [scale * weight * (layer + 1) / 4 for layer in LAYERS] for kind, weight in weights.items()},
        "top_k_overlap": {
            kind: [1 - scale * weight * layer / 8 for layer in LAYERS] for kind, weight in weights.items()
        },
        "mean_kl": {kind: scale * weight * 0.625 for kind, weight in weights.items()},
        "mean_overlap": {kind: 1 - scale * weight * 1.5 / 8 for kind, weight in weights.items()},
    }


def firmness(lean):
    """Refusal margins that sink, of plain goals from `lean` on and of attacks from -`lean`."""
    drop = {"held_back": ([0, 1, 4], 0.4), "after_finetuning": ([0, 5, 10], 0.2)}
    return {
        name: {
            label: [
                {"at": at, "value": value, "low": value - 0.3, "high": value + 0.3, "n": 12, "n_goals": 12}
                for step, at in enumerate(places)
                for value in [sign * lean - step * by]
            ]
            for label, sign in (("safe", 1), ("unsafe", -1))
        }
        for name, (places, by) in drop.items()
    }


ARMS = {
    "base": {},
    "selective-routing": {"complied": 1, "moved": 0.2, "share": 0.18},
    "selective-routing+router": {"complied": 0, "unparsed": 3, "moved": 0.9, "share": 0.19},
    "selective-gradient": {"complied": 0, "moved": 0.3, "share": 0.104},
    "baseline": {"complied": 0, "moved": 0.5, "share": 1.0},
    "random": {"complied": 9, "moved": 0.1, "share": 0.125},
    "steering": {"complied": 30, "moved": 1.4, "share": 0.0},
}


def write_comparison(run, arms=tuple(ARMS), labels=tuple(VERDICTS), judged=True):
    """`comparison.json`, `eval/ARM.json` and `eval/ARM/responses.parquet` for these arms, on prompts of these kinds."""
    prompts, objects = run.read_table("prompts.parquet"), []
    base = responses(prompts, complied=10**6, labels=labels, judged=judged)
    for name in arms:
        made = ARMS[name]
        table = responses(prompts, made["complied"], made.get("unparsed", 0), labels, judged) if made else base
        report = {
            "arm": name,
            **measures(table),
            "benign_loss": 0.02 + 0.01 * len(objects),
            "benign_exact": plain(50, 54).to_dict(),
            "routing_shift": shift(made["moved"]) if made else None,
            "reattack": {WRAPPER: plain(2 if made else 54, 54).to_dict()},
            "tasks": {},
            "robustness": firmness(0.5 + len(objects) / 10),
        }
        if made:
            report["compared"] = compared(table, base)
            report["answer_shift"] = {"kl": {"benign": made["moved"] / 50}, "tokens": {"benign": 400}}
        run.write_json(f"eval/{name}.json", report)
        run.write_table(f"eval/{name}/responses.parquet", table)
        objects.append(arm_object(name, report, *_training(name, made.get("share"))))
        if made:
            loss = {"value": made["moved"] / 5, "low": made["moved"] / 5 - 0.03, "high": made["moved"] / 5 + 0.03}
            differences = of_answers(table, base) | {"benign_loss": loss | {"n": 12, "n_goals": 12}}
            objects[-1]["margins"] = against(differences, MarginsConfig())
    run.write_json("comparison.json", objects)
    return objects


def _training(name, share):
    if name in ("base", "steering"):
        return ()
    trained = {"trainable_ratio": share, "seconds_per_step": 0.2, "peak_memory_bytes": 681992192}
    return trained, {"changed_ratio": share, "verify": "n/a" if name == "baseline" else "pass"}
