"""What tests of the report share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def copy_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Copies files and folders of the project, by default what a report is made of, into a new folder."""

    def copy(*names: str) -> Path:
        root = tmp_path_factory.mktemp("project")
        for name in names or ("dvc.yaml", "dvc.lock", "params.yaml", "metrics", "plots"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name)
            else:
                shutil.copy(ROOT / name, root / name)
        return root

    return copy
