"""Model folders that ask for code, made for real: the code would leave a file behind, and none does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from assay.core.pretrained import check_adapter, check_folder, load_model, load_peft, load_pretrained

# What a folder's own module does as soon as it is imported.
EVIL = """
from pathlib import Path
Path(__file__).resolve().parent  # wherever it is copied to
Path({marker!r}).write_text("ran")
from transformers import BertConfig, BertModel, BertTokenizer
class Config(BertConfig):
    model_type = "evil"
class Model(BertModel):
    config_class = Config
class Words(BertTokenizer):
    pass
"""
OWN = {
    "config.json": {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"},
    },
    "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Words", None]}, "tokenizer_class": "Words"},
    "processor_config.json": {"auto_map": {"AutoProcessor": "evil.Words"}, "processor_class": "Words"},
    "preprocessor_config.json": {"auto_map": {"AutoImageProcessor": "evil.Words"}, "image_processor_type": "Words"},
}
KINDS = {
    "config.json": AutoConfig,
    "tokenizer_config.json": AutoTokenizer,
    "processor_config.json": AutoProcessor,
    "preprocessor_config.json": AutoImageProcessor,
}


def change(path: Path, **changes: object) -> None:
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(found | changes))


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of a real model, which loads, and a module beside its weights."""
    copy = Path(shutil.copytree(tiny_encoder, tmp_path / "model"))
    assert load_model(AutoModel, copy).config.hidden_size == 16
    (copy / "evil.py").write_text(EVIL.format(marker=str(tmp_path / "marker")))
    return copy


@pytest.mark.parametrize("name", OWN)
def test_code_beside_the_weights_is_refused_by_name_and_nobody_is_asked(folder, tmp_path, monkeypatch, name):
    change(folder / name, **OWN[name])
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("standard input was asked"))
    for load in (load_pretrained, load_model):
        with pytest.raises(ValueError, match=rf"model/{name} asks for code of its own"):
            load(KINDS[name], folder)
    assert not (tmp_path / "marker").exists()


def test_the_planted_module_runs_where_it_is_trusted(folder, tmp_path):
    """Else the tests above would prove nothing."""
    change(folder / "config.json", **OWN["config.json"])
    code = "import sys; from transformers import AutoConfig; AutoConfig.from_pretrained(sys.argv[1])"
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    subprocess.run([sys.executable, "-c", code, folder], input="y\n", text=True, env=environment, capture_output=True)
    assert (tmp_path / "marker").read_text() == "ran"


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("config.json", {"attn_implementation": "someone/kernel"}, "kernel of the model hub"),
        ("config.json", {"text_config": {"_attn_implementation": {"": "someone/kernel:f"}}}, "kernel of the model hub"),
        ("config.json", {"attn_implementation": "flash_attention_2"}, "kernel of the model hub"),
        # A network that was made for other code, even of a type that transformers has.
        ("config.json", {"auto_map": {"AutoModel": "someone/else--evil.Model"}}, "code of its own"),
        (
            "processor_config.json",
            {"image_processor": {"auto_map": {"AutoImageProcessor": "evil.A"}}},
            "code of its own",
        ),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "other settings than these"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../../tokenizer.4.0.0.json"]}, "fast_tokenizer_files"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../other/model.safetensors"}}, "weight_map"),
        ("model.safetensors.index.json", {"weight_map": {"a": "/etc/model.safetensors"}}, "weight_map"),
        ("model.safetensors.index.json", {"weight_map": "a"}, "weight_map"),
    ],
)
def test_other_ways_to_code_and_files_elsewhere_are_refused(folder, name, changes, said):
    change(folder / name, **changes)
    with pytest.raises(ValueError, match=said) as caught:
        check_folder(folder)
    assert "model" in str(caught.value)


def test_an_adapter_in_the_place_of_a_model_does_not_lead_to_another(folder, tmp_path, tiny_encoder):
    shutil.copytree(tiny_encoder, tmp_path / "elsewhere")
    change(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=r"model holds an adapter"):
        load_model(AutoModel, folder)


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(folder, tmp_path):
    (folder / "vocab.txt").symlink_to(folder / "evil.py")
    check_folder(folder)
    shutil.move(folder / "model.safetensors", tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to("../elsewhere.safetensors")
    with pytest.raises(ValueError, match=r"'model.safetensors': a link leads out of"):
        load_model(AutoModel, folder)


def test_a_pickle_is_not_taken_for_weights(folder):
    import torch

    state = load_model(AutoModel, folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        load_model(AutoModel, folder)
    with pytest.raises(ValueError, match="no folder nowhere"):
        load_model(AutoModel, Path("nowhere"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        # A module that lies where the command is run from.
        ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "without megatron_config"),
        # It loads further adapters, from wherever it is told to.
        ({"peft_type": "XLORA", "adapters": {"0": "someone/adapter"}}, "peft_type LORA"),
        ({"peft_type": None}, "peft_type LORA"),
    ],
)
def test_an_adapter_imports_and_loads_nothing_else(folder, tmp_path, monkeypatch, changes, said):
    from peft import LoraConfig, PeftModel, get_peft_model

    base = load_model(AutoModel, folder)
    adapter = tmp_path / "adapter"
    get_peft_model(base, LoraConfig(target_modules=["query"])).save_pretrained(adapter)
    assert load_peft(PeftModel, adapter, load_model(AutoModel, folder)).peft_config["default"].peft_type == "LORA"
    change(adapter / "adapter_config.json", **changes)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(ValueError, match=said):
        load_peft(PeftModel, adapter, base)
    assert not (tmp_path / "marker").exists()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no .*adapter_model\.safetensors"):
        check_adapter(adapter)
