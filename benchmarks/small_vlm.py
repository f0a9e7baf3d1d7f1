"""What both vlm benchmarks work on: pictures in five colours, and the small Qwen2.5-VL of params.yaml with its processor.

Scenes take a display to render and minutes to learn; a colour per class is learned in seconds and costs the network the
same, since the pictures have the size of render_corridors.size and the questions are those of prepare_vlm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from assay.corridors.sampling import sample_scene
from assay.corridors.scenes import LABELS, caption
from assay.params.vlm import Vlm
from assay.vlm.processor import load_processor, save_small_processor
from assay.vlm.prompts import Prompt, high_prompt, risk_prompt

SPREAD = 40  # of the noise around a class's colour, in grey values
NUM_CAPTIONS = 200


def write_pictures(
    folder: Path, prompt: Prompt, *, count: int, size: tuple[int, int], seed: int
) -> list[dict[str, Any]]:
    """Write ``count`` PNG files, the classes in turn; returns their answered conversations."""
    rng, (width, height) = np.random.default_rng(seed), size
    colours = np.random.default_rng(0).integers(0, 256, (len(prompt.labels), 3))
    records = []
    for number in range(count):
        kind = number % len(prompt.labels)
        picture = colours[kind] + rng.integers(-SPREAD, SPREAD + 1, (height, width, 3))
        path = folder / f"{number:05d}.png"
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, compress_level=1)
        records.append(prompt.record(str(path), label=prompt.labels[kind]))
    return records


def make_processor(folder: Path, params: Vlm) -> Any:
    """The small processor over the vocabulary of prepare_vlm: questions, and captions of random scenes."""
    prepared, prompts = params.prepare_vlm, (risk_prompt(params.prepare_vlm), high_prompt(params.prepare_vlm))
    rng = np.random.default_rng(params.runtime.seed)
    said = [caption(sample_scene(rng, LABELS[number % len(LABELS)])) for number in range(NUM_CAPTIONS)]
    asked = [prepared.system, prepared.caption_question, "system", "user", "assistant"]
    said += [*asked, *(prompt.question for prompt in prompts)] * NUM_CAPTIONS
    answers = [answer for prompt in prompts for answer in prompt.answers]
    save_small_processor(folder, said, answers=answers, vocab_size=prepared.small.vocab_size)
    return load_processor(folder, min_pixels=prepared.min_pixels, max_pixels=prepared.max_pixels)
