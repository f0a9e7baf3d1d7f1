"""What names a checkpoint, and when its folder goes."""

from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from assay.core import resume
from assay.core.params import Section
from assay.core.resume import ROOT, resumable, resume_key, running_code


class Settings(Section):
    lr: float


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.chdir(tmp_path)
    Path("rows").mkdir()
    Path("rows/train.csv").write_text("a")
    Path("weights").write_text("b")
    return [Path("rows"), Path("weights")]


def test_the_key_covers_parameters_inputs_threads_processes_and_code(inputs, monkeypatch):
    def key(lr: float = 0.1) -> str:
        return resume_key("train_text@own", params={"network": Settings(lr=lr), "seed": 7}, inputs=inputs)

    first = key()
    assert first == key()
    others = {key(lr=0.2)}
    Path("rows/train.csv").write_text("c")
    others.add(key())
    Path("rows/more.csv").write_text("d")
    others.add(key())
    monkeypatch.setenv("WORLD_SIZE", "2")
    others.add(key())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        others.add(key())
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(resume, "version", lambda name: "0.1")
    others.add(key())
    assert len(others - {first}) == 6


def test_the_code_is_the_stage_s_with_its_packages() -> None:
    found = running_code("train_stage1")
    assert {"assay.stages.train_stage1", "assay.images.model.training", "torch", "timm"} <= set(found)
    assert "assay.vlm.training" not in found
    assert found["torch"] == version("torch")


def test_a_missing_input_is_an_error() -> None:
    with (
        pytest.raises(FileNotFoundError, match="nowhere"),
        resumable("train_text", params={}, inputs=[Path("nowhere")]),
    ):
        pass


def test_the_folder_goes_when_the_work_is_done_and_stays_when_it_fails(inputs: list[Path]) -> None:
    def work(epochs: int) -> None:
        with resumable("train_expert@maxvit-full", params={}, inputs=inputs) as folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"epoch_{epochs}").write_text("")
            assert epochs == 2, "killed"

    with pytest.raises(AssertionError, match="killed"):
        work(1)
    (kept,) = ROOT.iterdir()
    assert [path.name for path in kept.iterdir()] == ["epoch_1"]
    work(2)
    assert not kept.exists()


def test_only_the_first_process_removes_it(inputs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with resumable("train_text", params={}, inputs=inputs) as folder:
        folder.mkdir(parents=True)
    assert folder.is_dir()
