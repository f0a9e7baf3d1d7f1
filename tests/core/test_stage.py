"""What a stage cost is written when it ends well, and only then."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from assay.core.stage import follow_umask, timed


def test_a_record_of_the_stage(tmp_path: Path) -> None:
    with timed("one", folder=tmp_path / "timings") as figures:
        figures["epochs"] = 3
    record = json.loads((tmp_path / "timings" / "one.json").read_text())
    assert set(record) == {"stage", "wall_s", "startup_s", "cpu_s", "peak_bytes", "epochs"}
    assert (record["stage"], record["epochs"]) == ("one", 3)
    assert record["wall_s"] >= record["startup_s"] >= 0
    assert record["peak_bytes"] > 1_000_000


def test_no_record_of_a_stage_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"), timed("one", folder=tmp_path):
        raise ValueError("broken")
    assert not list(tmp_path.iterdir())


PIPELINE = """
stages:
  one:
    cmd: python one.py
    outs: [models/one.safetensors, data/rows]
  two:
    foreach: [a, b]
    do:
      cmd: python two.py ${item}
      outs: [{"models/${item}/two": {persist: true}}]
"""


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
@pytest.mark.parametrize(
    ("stage", "names"),
    [("one", ["models/one.safetensors", "data/rows/a/1.safetensors"]), ("two@b", ["models/b/two/1.safetensors"])],
)
def test_outputs_have_the_modes_that_the_umask_asks_for(tmp_path: Path, stage, names, umask, mode) -> None:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    own, linked = tmp_path / "data/own.safetensors", tmp_path / names[-1].replace("1.", "2.")
    before = os.umask(umask)
    try:
        for path in (own, *(tmp_path / name for name in names)):
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"a": np.zeros(3)}, path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, "safetensors has mended it: follow_umask can go"
        linked.hardlink_to(own)
        follow_umask(stage, tmp_path)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {mode}
    assert stat.S_IMODE(own.stat().st_mode) == 0o600, "not an output, though an output may be a link to it"


def test_without_a_pipeline_no_mode_is_changed(tmp_path: Path) -> None:
    follow_umask("one", tmp_path)
