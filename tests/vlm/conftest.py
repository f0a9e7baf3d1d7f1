"""A processor over a small vocabulary, a network of some ten thousand random weights, and pictures of random pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.params.vlm import SmallVlm
from assay.vlm.messages import messages_record

SYSTEM, QUESTION = "你是消防安全员。", "这里的风险等级是什么？"
# Of one token each; the tokenizer has seen the texts, so that answers made of them have several.
ANSWERS = ("无", "低", "中", "高", "非")
TEXTS = [SYSTEM, QUESTION, "楼道：左边柜子、中间火", "房间：桌子", "没有风险", "低风险", "风险很高"] * 4
SIZES = [(56, 56), (84, 56), (56, 84), (70, 63), (84, 84), (61, 77)]
MIN_PIXELS, MAX_PIXELS, DECODE_PIXELS = 784, 7056, 1_000_000


@pytest.fixture(scope="session")
def small() -> SmallVlm:
    return SmallVlm(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        vision_hidden_size=32,
        vision_layers=1,
        vision_heads=2,
        vision_intermediate_size=64,
    )


@pytest.fixture(scope="session")
def processor_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from assay.vlm.processor import save_small_processor

    folder = tmp_path_factory.mktemp("vlm") / "processor"
    save_small_processor(folder, TEXTS, answers=ANSWERS, vocab_size=300)
    return folder


@pytest.fixture(scope="session")
def processor(processor_folder: Path) -> Any:
    from assay.vlm.processor import load_processor

    return load_processor(processor_folder, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)


@pytest.fixture(scope="session")
def base_folder(small: SmallVlm, processor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network in evaluation mode's weights, as a model folder."""
    from assay.vlm.network import small_network

    folder = tmp_path_factory.mktemp("vlm") / "base"
    small_network(small, processor.tokenizer, seed=5).save_pretrained(folder)
    return folder


@pytest.fixture
def load_network(base_folder: Path, processor: Any) -> Callable[[], Any]:
    """Function to the network of ``base_folder``, afresh."""
    from assay.vlm.network import load_base

    return lambda: load_base(base_folder, weights_dtype="float32", processor=processor)


@pytest.fixture
def network(load_network: Callable[[], Any]) -> Any:
    return load_network().eval()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve pictures, of the sizes of SIZES in turn."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(11)
    paths = []
    for number in range(12):
        width, height = SIZES[number % len(SIZES)]
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def make_records(pictures: list[Path]) -> Callable[..., list[dict[str, Any]]]:
    """Function from answers (None: none) to conversations, the pictures in turn."""

    def make(answers: list[str | None]) -> list[dict[str, Any]]:
        return [
            messages_record(
                pictures[number % len(pictures)].as_posix(),
                system=SYSTEM,
                question=QUESTION,
                answer=answer,
                label=answer,
            )
            for number, answer in enumerate(answers)
        ]

    return make


@pytest.fixture(scope="session")
def params() -> Any:
    """The project's own parameters of the vlm line."""
    from assay.core.params import load
    from assay.params.vlm import Vlm

    return load(Vlm, Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="session")
def default_tuning(params: Any) -> Any:
    """The project's own settings of fine-tuning, with an adapter of rank 4."""
    lora = params.vlm_sft.lora.model_copy(update={"rank": 4, "alpha": 8})
    return params.vlm_sft.model_copy(update={"lora": lora})
