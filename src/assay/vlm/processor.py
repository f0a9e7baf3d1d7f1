"""What turns a conversation with an image into the tensors of Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import (
    AutoProcessor,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from assay.core.pretrained import load_pretrained

# In the order of the real vocabulary, where they are 151643 and following.
NAMES = ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
SPECIAL = [f"<|{name}|>" for name in NAMES]
# Qwen2.5-VL's conversation (ChatML), without tools, videos and several images.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}\
{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def save_small_processor(folder: Path, texts: Iterable[str], *, answers: Sequence[str], vocab_size: int) -> None:
    """Write the real processor over a small byte-level vocabulary, trained on ``texts``, in which an answer is one token.

    It tokenizes, resizes and places image tokens as Qwen2.5-VL's does; only the vocabulary is another.
    """
    blank = Qwen2Tokenizer(extra_special_tokens=SPECIAL, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer = blank.train_new_from_iterator(texts, vocab_size=vocab_size, show_progress=False)
    tokenizer.add_tokens(sorted(set(answers)))
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template=CHAT_TEMPLATE
    )
    processor.save_pretrained(folder)


def load_processor(folder: Path, *, min_pixels: int, max_pixels: int) -> Any:
    """The processor in ``folder``, which resizes images to between the two numbers of pixels.

    Raises:
        ValueError: none there, or one that is not Qwen2.5-VL's.
    """
    try:
        processor = load_pretrained(AutoProcessor, folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"no processor in {folder}: {str(error).splitlines()[0]}") from error
    if not isinstance(processor, Qwen2_5_VLProcessor):
        raise ValueError(f"{folder} holds a {type(processor).__name__}; a Qwen2.5-VL processor is needed")
    processor.image_processor.size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    return processor
