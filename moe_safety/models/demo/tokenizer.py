"""A word-level tokenizer for the demo's world, with a chat template."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from moe_safety.models.demo import language

PAD, END, UNKNOWN, SYSTEM, USER, ASSISTANT = SPECIAL = (
    "<|pad|>",
    "<|end|>",
    "<|unknown|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def demo_tokenizer() -> PreTrainedTokenizerFast:
    """Knows every word of the demo's world, in sorted order."""
    splitter = pre_tokenizers.Whitespace()
    words = {piece for text in _all_text() for piece, _ in splitter.pre_tokenize_str(text.lower())}
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *sorted(words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=256,
    )


def _all_text() -> list[str]:
    """Text that holds every word the demo uses."""
    samples = []
    for harmful in (True, False):
        for request in language.requests(harmful):
            samples += [message["content"] for wrap in language.WRAPPERS.values() for message in wrap(request)]
            samples += [language.base_behaviour(request, wrapper) for wrapper in language.WRAPPERS]
    return samples
