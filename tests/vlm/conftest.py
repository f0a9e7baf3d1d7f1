"""A processor over a small vocabulary, a network of some ten thousand random weights, and images of random pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.core.io import write_json
from assay.core.params import load
from assay.data.decode import decode_rgb
from assay.params.vlm import SmallVlm, Vlm
from assay.vlm.examples import encode, pad
from assay.vlm.messages import messages_record
from assay.vlm.network import RECORD, add_adapter, load_base, manifest, small_network
from assay.vlm.processor import load_processor, save_small_processor

SYSTEM, QUESTION = "你是消防安全员。", "这里的风险等级是什么？"
# Of one token each; the tokenizer has seen the texts, so that answers made of them have several.
ANSWERS = ("无", "低", "中", "高", "非", "否", "是")
TEXTS = [SYSTEM, QUESTION, "楼道：左边柜子、中间火", "房间：桌子", "没有风险", "低风险", "风险很高"] * 4
SIZES = [(56, 56), (84, 56), (56, 84), (70, 63), (84, 84), (61, 77)]
PIXELS = {"min_pixels": 784, "max_pixels": 7056}
DECODE_PIXELS = 1_000_000


@pytest.fixture(scope="session")
def params() -> Vlm:
    """The project's own parameters of the vlm line."""
    return load(Vlm, Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="session")
def default_tuning(params):
    """The project's own settings of fine-tuning, with an adapter of rank 4."""
    lora = params.vlm_sft.lora.model_copy(update={"rank": 4, "alpha": 8})
    return params.vlm_sft.model_copy(update={"lora": lora})


@pytest.fixture(scope="session")
def small() -> SmallVlm:
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    vision = {"vision_hidden_size": 32, "vision_layers": 1, "vision_heads": 2, "vision_intermediate_size": 64}
    return SmallVlm(**sizes, **vision)


@pytest.fixture(scope="session")
def processor_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("vlm") / "processor"
    save_small_processor(folder, TEXTS, answers=ANSWERS, vocab_size=300)
    return folder


@pytest.fixture(scope="session")
def open_processor(processor_folder) -> Callable[..., Any]:
    """Function to the processor afresh, with other limits if they are given."""
    return lambda folder=processor_folder, **limits: load_processor(folder, **PIXELS | limits)


@pytest.fixture(scope="session")
def processor(open_processor):
    return open_processor()


@pytest.fixture(scope="session")
def base_folder(small, processor, tmp_path_factory) -> Path:
    """A network as a model folder."""
    folder = tmp_path_factory.mktemp("vlm") / "base"
    small_network(small, processor.tokenizer, seed=5).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def load_network(base_folder, processor) -> Callable[..., Any]:
    """Function to the network of ``base_folder`` (or another), afresh."""
    return lambda folder=base_folder, dtype="float32": load_base(folder, weights_dtype=dtype, processor=processor)


@pytest.fixture
def network(load_network):
    return load_network().eval()


@pytest.fixture(scope="session")
def fill() -> Callable[..., Any]:
    """Function that gives an adapter (and a trained vision tower) weights that matter: they begin by changing nothing."""

    @torch.no_grad()
    def go(model: Any, *, seed: int = 0) -> Any:
        generator = torch.Generator().manual_seed(seed)
        for name, value in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                torch.nn.init.normal_(value, std=0.1, generator=generator)
            elif "visual.modules_to_save" in name:
                value.mul_(1.5 + seed)
        return model

    return go


@pytest.fixture(scope="session")
def save_adapter(base_folder, processor_folder, load_network, default_tuning, fill) -> Callable[..., Any]:
    """Function that saves an adapter of random weights with its manifest; it returns the model."""

    def save(folder, prompt, *, tuning=default_tuning, seed=0, base=base_folder, tools=processor_folder):
        model = fill(add_adapter(load_network(base), tuning, seed=seed), seed=seed)
        model.save_pretrained(folder)
        asked = prompt.to_json() | PIXELS
        write_json(folder / RECORD, manifest(base, tools, asked, model=model, weights_dtype="float32"))
        return model

    return save


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[Path]:
    """Twelve images, of the sizes of SIZES in turn."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(11)
    paths = [folder / f"{number}.png" for number in range(12)]
    for path, (width, height) in zip(paths, SIZES * 2, strict=True):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture(scope="session")
def make_records(pictures) -> Callable[..., list[dict[str, Any]]]:
    """Function from answers (None: none) to conversations, the images in turn."""

    def make(answers: list[str | None]) -> list[dict[str, Any]]:
        paths = [pictures[number % len(pictures)].as_posix() for number in range(len(answers))]
        return [
            messages_record(path, system=SYSTEM, question=QUESTION, answer=answer, label=answer)
            for path, answer in zip(paths, answers, strict=True)
        ]

    return make


@pytest.fixture(scope="session")
def encoded(processor) -> Callable[..., list[dict[str, Any]]]:
    """Function from conversations to their tensors, one by one."""

    def go(records: list[dict[str, Any]], processor: Any = processor) -> list[dict[str, Any]]:
        images = [decode_rgb(record["images"][0], max_pixels=DECODE_PIXELS) for record in records]
        return [encode(processor, record, image) for record, image in zip(records, images, strict=True)]

    return go


@pytest.fixture(scope="session")
def padded(processor) -> Callable[..., dict[str, torch.Tensor]]:
    """Function from encoded conversations to a batch."""
    return lambda rows, side="left": pad(rows, pad_token_id=processor.tokenizer.pad_token_id, side=side)
