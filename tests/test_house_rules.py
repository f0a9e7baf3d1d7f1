"""The rules of the house, as tests: they read the source and dvc.yaml, and run nothing of the pipeline."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from assay.closure import DECISIVE, NEUTRAL, PACKAGE, import_closure, parsed
from assay.params.schema import LINES
from assay_tools.gates import read_pipeline, stage_bodies, stage_module

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PRETRAINED = ROOT / "src/assay/core/pretrained.py"
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


def test_of_every_package_it_is_known_whether_its_version_decides_a_result():
    imported = set().union(*(parsed(path)[2] for path in SOURCES))
    optional = {"bitsandbytes"}
    assert imported - optional - {"assay_tools"} == set(DECISIVE) & imported | NEUTRAL & imported


def test_every_stage_has_a_module_of_its_name():
    modules = {stage_module(body) for _, body in stage_bodies(read_pipeline())}
    assert modules == {f"assay.stages.{path.stem}" for path in STAGES} | {"assay.closure"}


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_is_thin_and_imports_no_other_stage(path):
    assert not [name for name in parsed(path)[1] if name.startswith("assay.stages")]


def test_the_library_never_imports_a_stage():
    for path in set(SOURCES) - set(STAGES):
        assert not [name for name in parsed(path)[1] if name.startswith("assay.stages")], path


def test_parameter_classes_decide_no_value():
    """They are not counted as a stage's code: what is not in params.yaml must not come from them."""
    waiting, seen = list(LINES), set()
    while waiting:
        model = waiting.pop()
        for name, field in model.model_fields.items():
            assert field.is_required() or field.default is None, f"{model.__name__}.{name} has a default"
            waiting += [kind for kind in types_in(field.annotation) if issubclass(kind, BaseModel) and kind not in seen]
        seen.add(model)
    assert len(seen) > 40


def types_in(annotation):
    """The classes that a type annotation is made of."""
    parts = get_args(annotation)
    return {annotation} if isinstance(annotation, type) and not parts else set().union(*map(types_in, parts))


def stages_with(flag):
    """Names of the stages whose ``meta`` in dvc.yaml says so."""
    return [name for name, body in stage_bodies(read_pipeline()) if (body.get("meta") or {}).get(flag)]


def test_an_edit_to_a_metric_or_a_plot_retrains_nothing():
    pipeline = dict(stage_bodies(read_pipeline()))
    for stage in stages_with("heavy"):
        names = import_closure(stage_module(pipeline[stage]))
        assert not [name for name in names if name.startswith((f"{PACKAGE}.metrics", f"{PACKAGE}.report"))], stage


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_nothing_that_can_run_code_is_loaded(path):
    tree = ast.parse(path.read_text())
    assert not {name.split(".")[0] for name in names_of(tree)} & {"pickle", "joblib", "dill", "cloudpickle", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
            assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in node.keywords), path
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "from_pretrained" or path == PRETRAINED, (
                f"{path}: load it by assay.core.pretrained"
            )
            assert node.func.attr != "from_config" or "trust_remote_code" in {k.arg for k in node.keywords}, path
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            assert ast.unparse(node.value) == "False", path
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, path
            assert ast.unparse(node.type) not in ("Exception", "BaseException"), path


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "assay, assay.cli",
            "numpy pandas torch timm sklearn scipy matplotlib dvc pydantic ruamel transformers peft",
        ),
        ("assay.core.io", "numpy pandas pyarrow"),
        ("assay.metrics.binary", "pandas sklearn torch matplotlib"),
        ("assay.report.plots", "matplotlib.pyplot"),
        ("assay.corridors.rendering, assay.corridors.sampling", "miniworld pyglet gymnasium matplotlib"),
    ],
)
def test_an_import_loads_nothing_that_it_can_do_without(modules, heavy):
    code = f"import sys; before = set(sys.modules); import {modules}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert modules.split(",")[0] in done.stdout.split()
    assert not set(heavy.split()) & set(done.stdout.split())


def test_the_test_role_is_read_by_the_stages_that_say_so():
    """Files of the test role are named after it, so that the deps tell who reads it."""
    deps = {name: {Path(str(dep)) for dep in body.get("deps", [])} for name, body in stage_bodies(read_pipeline())}
    test = {path for paths in deps.values() for path in paths if re.match(r"(\w+_)?test[_.]", path.name)}
    assert test
    # Read by stages that depend on the whole folder.
    test |= {Path("data/processed/test_manifest.csv"), Path("data/vlm/rows/test.jsonl")}
    test |= {Path("data/counts/rows/test.parquet")}
    readers = {name for name, paths in deps.items() if any(path.is_relative_to(dep) for dep in paths for path in test)}
    assert readers == set(stages_with("reads_test"))
    assert not readers & {
        name for name in readers if name.startswith(("fetch", "prepare", "train", "pretrain", "vlm_sft"))
    }


def test_heavy_stages_have_cached_outputs_only():
    heavy = stages_with("heavy")
    assert {"train_stage1", "train_expert", "train_counts", "train_text", "vlm_sft"} <= set(heavy)
    for name, body in stage_bodies(read_pipeline()):
        if name in heavy:
            assert not body.get("metrics"), name
            assert not body.get("plots"), name


WRITES = re.compile(
    r"write_text|write_bytes|savefig|to_csv|to_parquet|to_json|save|savez|savetxt|tofile|dump|save_file|save_pretrained|"
    r"save_model|ParquetWriter|copyfile|copy2|copytree|move"
)
# Made anew by a stage: DVC removes it first, and takes it for good only when the stage has ended well.
OUTPUT = "an output of a stage"
# A folder of which one file, written last and whole, names or describes the others; nothing reads a folder without it.
RECORD = "a folder with a record that is written last"
NOT_ATOMIC = {
    "assay/core/io.py": "the writers themselves",
    "assay/images/model/store.py": "its path is that of open_writer's temporary file",
    "assay/counts/causal.py": OUTPUT,
    "assay/counts/networks.py": RECORD,
    "assay/data/fetch/gguf_models.py": OUTPUT,
    "assay/data/fetch/language_models.py": OUTPUT,
    "assay/data/fetch/index.py": "a temporary folder, of which one file with the right hash is moved",
    "assay/params/schema.py": "a stream in memory",
    "assay/stages/fetch_photos.py": RECORD,
    "assay/stages/forge.py": RECORD,
    "assay/stages/pool_text.py": RECORD,
    "assay/stages/prepare_vlm.py": RECORD,
    "assay/stages/pretrain_vlm.py": OUTPUT,
    "assay/stages/render_corridors.py": RECORD,
    "assay/text/encoder.py": RECORD,
    "assay/vlm/network.py": OUTPUT,
    "assay/vlm/own_pictures.py": "a folder of unpacked pictures that the stage removes",
    "assay/vlm/prediction.py": "a temporary folder",
    "assay/vlm/processor.py": OUTPUT,
    "assay/vlm/training.py": RECORD,
    "assay_tools/fuzz.py": "copies that are damaged on purpose",
    "assay_tools/repro/children.py": "a log, which grows while it is read",
    "assay_tools/repro/ray_worker.py": "a clone that lives as long as its worker",
    "assay_tools/repro/session.py": "a lock",
}


def is_write(call: ast.Call) -> bool:
    """Whether a call may write into a file of its own choice, not into a stream that another has opened."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name == "open":
        words = [
            node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        return any(set(word) <= set("rwabtx+") and set(word) & set("wax+") for word in words)
    return bool(WRITES.fullmatch(name) and call.args)


def half_written(tree: ast.AST) -> set[int]:
    """Lines whose write a kill could leave half done under the name that it shall have.

    Whole or not at all are those of a ``temporary`` file, which `atomic_path` gives, and of a ``scratch`` folder.
    """
    lines = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_write(node)):
        # Of a copy it is the place where it goes that counts.
        target = call.args[1] if ast.unparse(call.func).startswith("shutil.") else call
        names = {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
        if not names & {"temporary", "scratch", "buffer", "sys"}:
            lines.add(call.lineno)
    return lines


def test_every_file_is_written_whole_or_not_at_all():
    found = {}
    for root in (ROOT / "src", ROOT / "tools"):
        for path in root.glob("assay*/**/*.py"):
            tree = ast.parse(path.read_text())
            for item in (node for node in ast.walk(tree) if isinstance(node, ast.withitem) and node.optional_vars):
                maker = {"temporary": "atomic_path", "scratch": "TemporaryDirectory"}.get(
                    ast.unparse(item.optional_vars)
                )
                assert maker is None or maker in ast.unparse(item.context_expr), path
            if lines := half_written(tree):
                found[path.relative_to(root).as_posix()] = sorted(lines)
    strange = {name: lines for name, lines in found.items() if name not in NOT_ATOMIC}
    assert not strange, f"write through assay.core.io.atomic_path: {strange}"
    assert not set(NOT_ATOMIC) - set(found), "these need no exception any more"
    # The rule sees what it is there for.
    bad = ["Path('a').write_text('b')", "open('a', mode='w')", "frame.to_csv(path)"]
    good = ["frame.to_csv(temporary)", "open('rows').read()"]
    assert half_written(ast.parse("\n".join(bad + good))) == {1, 2, 3}


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


def test_every_package_is_locked_by_the_hashes_of_its_files():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [number for number, line in enumerate(lines) if not line.startswith((" ", "#"))]
    assert len(pins) > 100
    for number in pins:
        assert re.fullmatch(r"[\w.-]+==[^ ]+( ; .+)? \\", lines[number]), lines[number]
        assert re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", lines[number + 1]), lines[number]
    # Without it a file that has no hash here would be taken.
    assert "--require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text()
