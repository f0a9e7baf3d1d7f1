"""The rules of the house, as tests: they read the source and dvc.yaml, and run nothing of the pipeline."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assay.closure import import_closure, imported_names
from assay_tools.gates import missing_deps, read_pipeline, stage_bodies, stage_module, undescribed

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
STAGES = sorted(path for path in (ROOT / "src/assay/stages").glob("*.py") if path.name != "__init__.py")


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def names_of(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


def test_every_file_a_stage_runs_is_in_its_deps():
    assert missing_deps(read_pipeline()) == []


def test_every_stage_has_a_description_and_a_module_of_its_name():
    pipeline = read_pipeline()
    assert undescribed(pipeline) == []
    modules = {stage_module(body) for _, body in stage_bodies(pipeline)}
    assert modules == {f"assay.stages.{path.stem}" for path in STAGES}


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_thin_and_imports_no_other_stage(path):
    assert len(path.read_text().splitlines()) <= 150
    assert not [name for name in imported_names(path) if name.startswith("assay.stages")]


def test_the_library_never_imports_a_stage():
    for path in set(SOURCES) - set(STAGES):
        assert not [name for name in imported_names(path) if name.startswith("assay.stages")], path


@pytest.mark.parametrize(
    "stage",
    ["train_stage1", "train_expert", "train_counts", "train_text", "pretrain_vlm", "vlm_sft", "vlm_sft_high_risk"],
)
def test_an_edit_to_a_metric_or_a_plot_retrains_nothing(stage):
    for path in import_closure(f"assay.stages.{stage}"):
        assert path.parts[2] not in ("metrics", "reporting"), path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_nothing_that_can_run_code_is_loaded(path):
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for name in names_of(tree)} & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords), path
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, path
            assert ast.unparse(node.type) not in ("Exception", "BaseException"), path


def test_import_assay_is_light():
    code = "import sys; before = set(sys.modules); import assay, assay.cli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pandas", "torch", "timm", "sklearn", "scipy", "matplotlib", "dvc", "pydantic", "ruamel"} | {
        "transformers",
        "peft",
    }
    assert not {name.split(".")[0] for name in done.stdout.split()} & heavy


def test_the_test_role_is_read_by_evaluate_stages_only():
    for name, body in stage_bodies(read_pipeline()):
        if any("test_manifest" in str(dep) or "test.parquet" in str(dep) for dep in body.get("deps", [])):
            assert name.startswith("evaluate"), name


def test_heavy_stages_have_cached_outputs_only():
    for name, body in stage_bodies(read_pipeline()):
        if name in ("forge", "train_stage1", "init_expert", "train_expert", "train_counts") or name.startswith("kfold"):
            assert not body.get("metrics"), name
            assert not body.get("plots"), name


def test_no_output_holds_a_clock_time_or_an_absolute_path():
    pattern = re.compile(r"\b20\d\d-\d\d-\d\d\b|\d\d:\d\d:\d\d|\"/[a-z]+/")
    for path in [*ROOT.glob("metrics/*.json"), *ROOT.glob("plots/**/*.csv")]:
        assert not pattern.search(path.read_text()), path


def test_no_registry_host_is_named():
    hosts = ["py" + "pi.org", "python" + "hosted.org", "registry." + "npmjs"]
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".lock", ".csv", ".cfg", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [host for host in hosts if host in text], name
