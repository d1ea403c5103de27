"""The library without Ray, on a tiny random model: count, compare, select, train. python examples/library.py"""

import torch
from torch.utils.data import DataLoader
from transformers import OlmoeConfig, OlmoeForCausalLM

from moe_safety import (
    BatchPreservingSampler,
    LazyAdamW,
    aggregate_batch_risk_diffs,
    calculate_risk_diff_per_batch,
    count_routing,
    identify_unsafe_experts,
    inspect_model,
    selective_experts,
)

BATCHES, ROWS, PROMPT, ANSWER = 3, 4, 8, 4
LABELS = ["safe", "safe", "unsafe", "unsafe"]


def tiny_model() -> OlmoeForCausalLM:
    """Two layers of eight experts, with random weights."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2}
    experts = {"num_attention_heads": 4, "num_experts": 8, "num_experts_per_tok": 2, "eos_token_id": 1}
    return OlmoeForCausalLM(OlmoeConfig(**sizes, **experts)).eval()


def main() -> None:
    torch.manual_seed(0)
    model = tiny_model()
    layout = inspect_model(model)
    ids = torch.randint(2, 64, (BATCHES * ROWS, PROMPT + ANSWER))  # Of real prompts: what the tokenizer gives.
    mask, answer = torch.ones_like(ids), torch.zeros_like(ids)
    answer[:, PROMPT:] = 1

    # Which experts the tokens of each answer went to, batch by batch.
    counts = count_routing(model, ids, mask, counted=answer)
    batches = [slice(start, start + ROWS) for start in range(0, len(ids), ROWS)]
    tables = [calculate_risk_diff_per_batch(counts[rows], [ANSWER] * ROWS, LABELS, layout) for rows in batches]
    chosen = identify_unsafe_experts(aggregate_batch_risk_diffs(tables), threshold=0.05, top_k=4)
    masks = [identify_unsafe_experts(table, threshold=0.05, top_k=2) for table in tables]
    union = sorted({*chosen, *(expert for mask_ in masks for expert in mask_)})
    print(f"selected: {chosen}; with the batches' own: {len(union)} experts")

    # Whole batches, each moving the experts of its own mask alone.
    batch_idx = [row // ROWS for row in range(len(ids))]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with selective_experts(model, union) as trained:
        optimizer = LazyAdamW(trained.parameters(), lr=1e-3, weight_decay=0.1)
        for rows in DataLoader(range(len(ids)), batch_sampler=BatchPreservingSampler(batch_idx)):
            trained.set_active(masks[batch_idx[int(rows[0])]])
            labels = ids[rows].masked_fill(answer[rows] == 0, -100)
            loss = model(input_ids=ids[rows], attention_mask=mask[rows], labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            print(f"batch {batch_idx[int(rows[0])]}: loss {loss.item():.3f}")
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    print(f"changed: {', '.join(changed)}")


if __name__ == "__main__":
    main()
