"""DVC's site cache: what another user plants there is loaded, and nothing can be planted in the project's own."""

import stat
import sys
from pathlib import Path

import pytest

from assay_tools.site_cache import FOLDER, close_site_cache, open_to_others, site_cache

STAGES = "stages:\n  one: {desc: one, cmd: cp params.yaml one.txt, params: [a], outs: [one.txt]}\n"
# What another user would do, with DVC's own library: an entry whose pickle leaves a file where it is loaded.
PLANT = """
import pathlib, sys
from dvc_data.hashfile.cache import Cache
class Planted:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(sys.argv[2]),)
with Cache(sys.argv[1]) as links:
    links["sub/note.txt"] = Planted()
"""


@pytest.fixture(scope="module")
def finished(make_project):
    project = make_project({"dvc.yaml": STAGES, "params.yaml": "a: 1\n", "sub/note.txt": "", ".gitignore": "one.txt\n"})
    project.commit()
    return project


def test_what_others_plant_in_a_shared_folder_is_loaded_and_check_tells_of_it(project, tmp_path):
    """The threat is real, which the tests below would not show; the closed folder begins without what was planted."""
    shared, marker = tmp_path / "shared", tmp_path / "marker"
    project.dvc("config", "core.site_cache_dir", str(shared))
    (warning,) = open_to_others(project)
    assert "not there" in warning
    project.dvc("repro", "--quiet")
    (links,) = shared.glob("repo/*/links")
    project.run(sys.executable, "-c", PLANT, str(links), str(marker))
    project.dvc("checkout")
    assert marker.is_file()
    (warning,) = open_to_others(project)
    assert f"{shared} is open to other users" in warning
    assert "assay check --fix" in warning
    marker.unlink()
    done = project.assay("check", "--fix")
    assert f"site cache is now {project / FOLDER}, closed to others" in done.stdout
    assert "site cache" not in done.stderr
    project.dvc("checkout")
    assert not marker.exists()


def test_every_command_keeps_to_the_closed_folder(project):
    """From subfolders and in experiments' own folders, too; an open one is closed, and what lay in it is gone."""
    folder = project / FOLDER
    folder.mkdir(parents=True)
    (folder / "planted").write_text("")
    folder.chmod(0o777)
    project.run(sys.executable, "-m", "assay_tools.site_cache")
    assert site_cache(project) == folder
    assert list(folder.iterdir()) == []
    project.dvc("repro", "--quiet")
    assert project.run(sys.executable, "-m", "dvc", "--cd", "sub", "status")
    assert len(list(folder.glob("repo/*"))) == 1
    project.commit()
    project.dvc("exp", "run", "--temp", "-S", "a=2")
    assert len(list(folder.glob("repo/*"))) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert open_to_others(project) == []
    assert project.git("status", "--porcelain") == ""


def test_what_a_link_in_its_place_leads_to_is_left_alone(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "kept").write_text("")
    (project / FOLDER).parent.mkdir(parents=True, exist_ok=True)
    (project / FOLDER).symlink_to(elsewhere)
    assert close_site_cache(project) == project / FOLDER
    assert (elsewhere / "kept").is_file()
    assert open_to_others(project) == []


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_whoever_else_may_enter_it_is_open(project, mode):
    close_site_cache(project)
    (project / FOLDER).chmod(mode)
    assert len(open_to_others(project)) == 1


def test_another_folder_in_the_environment_is_told(project, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"DVC_SITE_CACHE_DIR names .* unset it"):
        close_site_cache(project)
    assert open_to_others(Path("nowhere")) == []
