"""Own data under DVC, with the real dvc and git in small projects: the whole trip, links of every kind, experiments."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dvc.repo import Repo
from PIL import Image
from safetensors.numpy import load_file, save_file

from assay.core.io import atomic_path, inside, read_npy, write_npy
from assay.core.params import read_yaml
from assay.images.listing import combine
from assay.images.sources import list_path
from assay.params.images import Labelled
from assay_tools.gates import green_clone, problems
from assay_tools.own_data import unseen_by_dvc
from assay_tools.workspace import git_files, warnings

# dvc's own, about one of its libraries.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[2]
KINDS = sorted(path.name for path in (ROOT / "data/own").iterdir() if path.is_dir())
# As in the real dvc.yaml stages depend on the folders of kinds, and run first what every stage does.
PIPELINE = "stages:\n" + "".join(
    f"  {name}: {{desc: d, cmd: python stage.py {name} {' '.join(kinds)}, params: [seed], outs: [data/{name}.txt], "
    f"deps: [{', '.join(f'data/own/{kind}' for kind in kinds)}]}}\n"
    for name, kinds in {"sources": ["sources"], "rest": [kind for kind in KINDS if kind != "sources"]}.items()
)
SCRIPT = """\
import os, sys
from pathlib import Path
from assay.core.stage import check_own_data
try:
    check_own_data(os.environ["DVC_STAGE"], Path.cwd())
except ValueError as error:
    sys.exit(str(error))
paths = [path for kind in sys.argv[2:] for path in sorted(Path("data/own", kind).rglob("*")) if path.suffix != ".dvc"]
text = "\\n".join(f"{path} {path.read_text()}" for path in paths if path.is_file())
Path(f"data/{sys.argv[1]}.txt").write_text(text)
"""
# Each below its kind: single files and folders, with names that need quotes in a shell or an encoding.
OWN = {"mine": {"real/1.txt": "one", "forged/1.txt": "two"}, "我的 照片": {"a/一.txt": "三"}, "评论, 'x'.csv": "text"}
KEPT = [f"data/own/{kind}/{name}" for kind in KINDS for name in OWN]


@pytest.fixture(scope="module")
def finished(make_project):
    """Own data of every kind under ``dvc add``, a stage of each run, all committed and pushed, the cache cleaned."""
    files = {".gitignore": (ROOT / ".gitignore").read_text(), "stage.py": SCRIPT, "params.yaml": "seed: 1\n"}
    files |= {f"data/own/{kind}/README.md": "yours" for kind in KINDS}
    files["dvc.yaml"] = PIPELINE
    for name in KEPT:
        content = OWN[Path(name).name]
        parts = {name: content} if isinstance(content, str) else {f"{name}/{at}": text for at, text in content.items()}
        files |= parts
    project = make_project(files)
    project.dvc("add", "--quiet", *KEPT)
    project.dvc("repro", "--quiet")
    project.dvc("remote", "add", "--default", "local", str(project.with_name("remote")))
    project.commit()
    project.dvc("push", "--quiet")
    return project


def seen_by_dvc(project):
    with Repo(str(project)) as repo:
        return {Path(stage.path) for stage in repo.index.stages if stage.is_data_source}


def test_own_data_make_the_whole_trip(project, tmp_path):
    tracked = git_files(project, "--", "data/own")
    assert {Path(name).name for name in tracked if not name.endswith(".dvc")} == {"README.md"}
    assert seen_by_dvc(project) == {project / f"{name}.dvc" for name in KEPT}
    before = [(project / f"data/{name}.txt").read_text() for name in ("sources", "rest")]
    assert "三" in before[0]
    # This deleted own data; afterwards the remote had none either.
    project.dvc("gc", "--workspace", "--force", "--quiet")
    assert "are in sync" in project.dvc("status", "--cloud")
    assert green_clone(project) == []
    assert warnings(project) == []
    clone = project.clone(tmp_path / "clone")
    assert not [name for name in KEPT if (clone / name).exists()]
    clone.dvc("pull", "--quiet")
    assert [(clone / f"data/{name}.txt").read_text() for name in ("sources", "rest")] == before
    assert "up to date" in clone.dvc("repro")
    # The stages' hashes follow the data.
    (clone / "data/own/sources/mine/real/1.txt").write_text("changed")
    said = clone.dvc("repro", "--dry")
    assert "Running stage 'sources'" in said
    assert "Running stage 'rest'" not in said


def test_own_data_that_nothing_carries_are_named(project):
    """By assay check, by the gate, and by the stages of an experiment in a folder of its own."""
    project.dvc("remove", "data/own/sources/mine.dvc")
    project.dvc("repro", "--quiet")
    project.commit()
    (warning,) = warnings(project)
    assert "data/own/sources: mine on this disk alone" in warning
    assert "dvc add 'data/own/sources/mine'" in warning
    stages, lacking = green_clone(project)
    assert "would run 1 stage(s), sources" in stages
    assert "data/own/sources: mine on this disk alone" in lacking
    done = project.attempt("dvc", "exp", "run", "--temp", "--set-param", "seed=2", "sources")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "of data/own/sources neither keeps mine: run dvc exp run without --temp and --queue" in said
    # Another kind of data does not matter; and what the message says helps.
    assert "Ran experiment" in project.dvc("exp", "run", "--temp", "--set-param", "seed=3", "rest")
    project.dvc("add", "--quiet", "data/own/sources/mine")
    project.commit()
    assert "Ran experiment" in project.dvc("exp", "run", "--temp", "--set-param", "seed=5", "sources")


def test_a_dvc_file_that_dvc_does_not_see_is_named(project):
    """The patterns that Assay had: to DVC they left out the folders, and it looked at no file below them."""
    project.edit(".gitignore", "/data/own/*/?*", "/data/own/*/*")
    assert seen_by_dvc(project) == set()
    with Repo(str(project)) as repo:
        found = unseen_by_dvc(repo)
    assert len(found) == len(KEPT)
    assert "dvc gc -w deletes them" in found[0]


def test_a_project_in_a_folder_of_a_larger_repository(project, tmp_path):
    """assay gate ended in a traceback: git clones whole repositories."""
    outer = type(project)(tmp_path / "大 repository")
    outer.mkdir()
    outer.git("init", "--quiet", "--initial-branch=main")
    outer.name_author()
    inner = type(project)(shutil.copytree(project, outer / "sub dir", ignore=shutil.ignore_patterns(".git", ".dvc")))
    inner.dvc("init", "--subdir", "--quiet")
    shutil.copytree(project / ".dvc/cache", inner / ".dvc/cache")
    outer.commit()
    assert green_clone(inner) == []
    assert ["not ASCII" in warning for warning in warnings(inner)] == [True]
    inner.edit("params.yaml", "1", "2")
    outer.commit()
    (line,) = green_clone(inner)
    assert "would run 2 stage(s)" in line
    done = inner.assay("why", "sources")
    assert "params    seed: 1 -> 2" in done.stdout
    assert inner.assay("repro").returncode == 0
    outer.commit()
    assert green_clone(inner) == []


def test_a_project_without_git(project):
    shutil.rmtree(project / ".git")
    project.dvc("config", "core.no_scm", "true")
    (warning,) = warnings(project)
    assert "no git here" in warning
    assert not [line for line in problems(project) if "git ls-files" in line]
    done = project.assay("gate")
    assert done.returncode == 2
    assert "assay gate: no git here" in done.stderr
    assert "sources: up to date" in project.assay("why", "sources").stdout
    project.edit("params.yaml", "1", "2")
    assert project.assay("repro").returncode == 0


def test_a_worktree_of_git(project, tmp_path):
    project.git("worktree", "add", "--quiet", str(tmp_path / "树"), "-b", "other")
    tree = type(project)(tmp_path / "树")
    tree.dvc("cache", "dir", "--local", os.path.relpath(project / ".dvc/cache", tree))
    tree.dvc("checkout", "--quiet")
    assert "up to date" in tree.dvc("status")
    assert green_clone(tree) == []
    assert ["not ASCII" in warning for warning in warnings(tree)] == [True]


@pytest.fixture(scope="module")
def pictures(make_project):
    """Own pictures of both classes, one of them twice, and a manifest with its own, below ``dvc add``; arrays, too."""
    project = make_project({".gitignore": (ROOT / ".gitignore").read_text()})
    own, bought = project / "data/own/sources/我的", project / "data/own/sources/bought"
    rng = np.random.default_rng(0)
    for path in [own / "real/1.png", own / "forged/2.png", bought / "crops/3.png"]:
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    shutil.copy(own / "real/1.png", own / "real/again.png")
    (bought / "list.csv").write_text("path,label\ncrops/3.png,1\n../我的/real/1.png,0\n")
    write_npy(project / "data/own/weights/a.npy", np.arange(10))
    save_file({"a": np.arange(10)}, project / "data/own/weights/a.safetensors")
    project.dvc("add", "--quiet", str(own), str(bought), "data/own/weights/a.npy", "data/own/weights/a.safetensors")
    project.commit()
    return project


@pytest.mark.parametrize("types", ["copy", "reflink,copy", "hardlink", "symlink", "symlink in another cache"])
def test_cached_files_are_files_whatever_links_dvc_makes(pictures, types, monkeypatch, tmp_path):
    monkeypatch.chdir(pictures)
    monkeypatch.setenv("DVC_ROOT", str(pictures))
    kind, _, another = types.partition(" ")
    # DVC writes its settings as ASCII.
    cache = tmp_path / "cache" if another else pictures / ".dvc/cache"
    if another:
        shutil.copytree(pictures / ".dvc/cache", cache)
        pictures = type(pictures)(shutil.copytree(pictures, tmp_path / "项 目", symlinks=True))
        monkeypatch.chdir(pictures)
        monkeypatch.setenv("DVC_ROOT", str(pictures))
        pictures.dvc("cache", "dir", "--local", str(cache))
    pictures.dvc("config", "--local", "cache.type", kind)
    pictures.dvc("checkout", "--relink", "--quiet")
    one = Path("data/own/sources/我的/real/1.png")
    assert one.is_symlink() == (kind == "symlink")
    assert (one.stat().st_nlink > 1) == (kind == "hardlink") or one.is_symlink()
    how = Labelled()
    found = combine(
        [
            list_path(Path("data/own/sources/我的"), dataset="mine", how=how, field="f"),
            list_path(one.parents[2] / "bought/list.csv", dataset="b", how=how, field="f"),
        ]
    )
    # Equal pictures are two files, as they are without links.
    names = [path.removeprefix("data/own/sources/") for path in found.rows["image_path"]]
    assert names == ["我的/real/1.png", "我的/real/again.png", "我的/forged/2.png", "bought/crops/3.png"]
    assert list(found.rejected["reason"]) == ["outside"], "a manifest reaches into another folder through '..'"
    assert read_npy("data/own/weights/a.npy", mmap=True).sum() == 45
    assert load_file("data/own/weights/a.safetensors")["a"].sum() == 45
    # What a stage writes takes the link's place; the cache keeps what it has.
    with atomic_path("data/own/weights/a.npy") as temporary:
        temporary.write_bytes(b"new")
    assert not Path("data/own/weights/a.npy").is_symlink()
    pictures.dvc("checkout", "--force", "--quiet", "data/own/weights/a.npy.dvc")
    assert read_npy("data/own/weights/a.npy").sum() == 45


def test_links_that_dvc_did_not_make_lead_nowhere(pictures, monkeypatch, tmp_path):
    project = type(pictures)(shutil.copytree(pictures, tmp_path / "project"))
    monkeypatch.setenv("DVC_ROOT", str(project))
    cached = next(path for path in (project / ".dvc/cache/files/md5").rglob("*") if path.is_file())
    root, secret = project / "data/own/sources/hostile", tmp_path / "files/md5/ab/0123456789abcdef0123456789abcd"
    for path in (root, secret.parent):
        path.mkdir(parents=True)
    secret.write_text("not in the cache")
    shutil.copy(secret, project / ".dvc/config.secret")
    links = {
        "secret": secret,
        "settings": project / ".dvc/config.secret",
        "cache": project / ".dvc/cache/files/md5",
        "back": cached.parent / "../../../../config.secret",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "object").symlink_to(cached)
    for name in (*links, f"cache/{cached.parent.name}/{cached.name}", "cache/../object"):
        with pytest.raises(ValueError, match=r"leads out|without '\.\.'"):
            inside(root, name)
    assert inside(root, "object") == root / "object"
    assert inside(root, "new.txt") == root / "new.txt"
    # Another project's cache is not this one's.
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with pytest.raises(ValueError, match="leads out"):
        inside(root, "object")


# Forms of -S for a shell's single quotes, and what becomes of each; docs/your-data.md shows them.
FORMS = {
    "sources=[{dataset: mine, kind: folders, path: data/own/sources/mine}]": [
        {"dataset": "mine", "kind": "folders", "path": "data/own/sources/mine"}
    ],
    'chinese=[{dataset: "我的", kind: folders, path: "data/own/sources/我的 照片"}]': [
        {"dataset": "我的", "kind": "folders", "path": "data/own/sources/我的 照片"}
    ],
    'commas="data/own/photos/a, b"': "data/own/photos/a, b",
    'quotes="it\'s"': "it's",
    "plain=data/own/my photos": "data/own/my photos",
    'colon="file: data/own/weights/net.pth"': "file: data/own/weights/net.pth",
    'equals="a=b"': "a=b",
    "numbers=[60, 95]": [60, 95],
    "words=[recon, blend]": ["recon", "blend"],
    "small=1e-5": 1e-5,
    "entry.0.dataset=other": [{"dataset": "other"}],
    'word="no"': "no",
    "nothing=null": None,
    "+added=[{name: phone}]": [{"name": "phone"}],
}


def test_the_documented_forms_of_values_on_the_command_line(make_project):
    keys = [form.partition("=")[0] for form in FORMS]
    before = "entry: [{dataset: mine}]\n" + "".join(f"{key}: 0\n" for key in keys if key.isalpha() and key != "entry")
    project = make_project({"params.yaml": before, "dvc.yaml": "stages: {one: {cmd: cp params.yaml o, outs: [o]}}\n"})
    project.commit()
    project.dvc("exp", "run", "--quiet", *(word for form in FORMS for word in ("--set-param", form)))
    page = (ROOT / "docs/your-data.md").read_text()
    values = read_yaml(project / "params.yaml")
    for form, wanted in FORMS.items():
        key = form.partition("=")[0].lstrip("+").split(".")[0]
        assert values[key] == wanted, form
        assert form.partition("=")[2] in page, f"docs/your-data.md does not show {form}"
    for refused in ("plain=我的", "plain=a, b", "equals=a=b"):
        assert project.attempt("dvc", "exp", "run", "--set-param", refused).returncode != 0
