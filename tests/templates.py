"""Chat templates in the manner of several families, and a tokenizer that knows their marks, for invented words."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

MARKS = (
    *("<pad>", "<end>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|start|>", "<|channel|>"),
    *("<|message|>", "<|return|>", "[INST]", "[/INST]", "<user>", "<model>", "<turn>"),
)

PLAIN = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Nothing stands before an answer."""
THINKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
"""A block of thinking, empty where there was none."""
OPENED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<model>' + m.content.split('</think>')[-1] + '<turn>' }}"
    "{% else %}{{ '<user>' + m.content + '<turn>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<model><think>\n' }}{% endif %}"
)
"""The prompt opens a block of thinking, which past turns are shown without."""
CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<end>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}"
    "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<end>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
"""Channels, of which the last is the answer's."""
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if m.role == 'assistant' %}{{ '<model>\n' + m.content | trim + '<turn>\n' }}"
    "{% else %}{{ '<user>\n' + m.content | trim + '<turn>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<model>\n' }}{% endif %}"
)
SPACED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ ' ' + m.content + '<end>' }}"
    "{% else %}{{ '[INST] ' + m.content + ' [/INST]' }}{% endif %}{% endfor %}"
)
"""A space stands before an answer, and there is no mark for the generation to begin at."""
TEMPLATES = {
    "plain": PLAIN,
    "thinks": THINKS,
    "opened": OPENED,
    "channels": CHANNELS,
    "no system": NO_SYSTEM,
    "spaced": SPACED,
}


def template_tokenizer(template, words=("sure", "no"), size=600):
    """Byte-level pairs, learned from these words."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(MARKS), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(
        [*(f" {word}" for word in words), " ".join(words), "\n\n user assistant system"], trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", chat_template=template, padding_side="left"
    )
