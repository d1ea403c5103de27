"""Judges whose weights are set by hand: they refuse where a text says `sorry`, and are odd where it says `grell`."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

PAD, END, UNKNOWN, USER, ASSISTANT, THOUGHT = "<|pad|>", "<|end|>", "<|unknown|>", "<|user|>", "<|assistant|>", "<th>"
WORDS = ("refused", "complied", "sorry", "grell", "take", "the", "zorp", "answer", "end", "user")
CHAT = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
LABELS = {0: "HELPS", 1: "DECLINES", 2: "ODD"}
MEANING = {"HELPS": "complied", "DECLINES": "refused"}

ALWAYS, SORRY, SAID_SORRY, REPLY, GRELL, SAID_GRELL = range(6)
"""What the places of a hidden state stand for."""


def tokenizer():
    """Knows few words; `<th>` is a mark that is not declared special, as `<think>` is in some tokenizers."""
    vocabulary = {word: number for number, word in enumerate([PAD, END, UNKNOWN, USER, ASSISTANT, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT,
        padding_side="left",
        model_max_length=512,
    )
    made.add_tokens([THOUGHT])
    return made


def generative(folder):
    """Replies `refused` or `complied` and ends its turn."""
    return _save(LlamaForCausalLM, folder, _head)


def classifier(folder):
    return _save(LlamaForSequenceClassification, folder, _scores, id2label=LABELS)


def _save(kind, folder, head, **settings):
    words = tokenizer()
    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        vocab_size=len(words),
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **settings,
    )
    model = kind(config)
    ids = {word: words.convert_tokens_to_ids(word) for word in (*WORDS, END)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("norm" in name))
        embedding = model.model.embed_tokens.weight
        embedding[:, ALWAYS] = 1
        embedding[ids["sorry"], SORRY] = 1
        embedding[ids["grell"], GRELL] = 1
        embedding[[ids["refused"], ids["complied"]], REPLY] = 1
        # Queries and keys are 0, so every token attends alike to all before it, and the mean of a mark tells if it
        # stood anywhere.
        attention = model.model.layers[0].self_attn
        for mark, found in ((SORRY, SAID_SORRY), (GRELL, SAID_GRELL)):
            attention.v_proj.weight[mark, mark] = 1
            attention.o_proj.weight[found, mark] = 1e6
        head(model, ids)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def _head(model, ids):
    model.lm_head.weight[ids["complied"], ALWAYS] = 1
    model.lm_head.weight[ids["refused"], SAID_SORRY] = 1
    # The turn ends after either word; an odd text is answered with `zorp` without end.
    model.lm_head.weight[ids[END], REPLY] = 1e9
    model.lm_head.weight[ids["zorp"], SAID_GRELL] = 100


def _scores(model, ids):
    for label, place in enumerate((ALWAYS, SAID_SORRY, SAID_GRELL)):
        model.score.weight[label, place] = 10
