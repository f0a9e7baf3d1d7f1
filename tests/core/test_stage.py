"""What a stage cost is written when it ends well, and only then."""

import json
from pathlib import Path

import pytest

from assay.core.stage import timed


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
