"""Metrics as text."""

from assay.report.tables import interval_text, system_table


def test_value_interval_and_what_is_missing() -> None:
    report = {"auc": 0.9124, "auc_low": 0.88, "auc_high": 0.9413, "f1": 0.5, "f1_low": None, "f1_high": None}
    report["ap"] = None
    assert interval_text(report, "auc") == "0.912 [0.880, 0.941]"
    assert interval_text(report, "f1") == "0.500"
    assert interval_text(report | {"n_groups": 4}, "f1") == "0.500 [not enough groups]"
    assert interval_text(report | {"n_groups": 9}, "f1") == "0.500"
    assert interval_text(report, "ap") == interval_text(report, "absent") == "-"


def test_systems_do_not_mix() -> None:
    metrics = {"test.n": 10, "test.n_groups": 3, "test.auc": 0.5, "test.more.auc": 0.7, "temperature": 1.0}
    table = system_table(metrics, ["test", "test.more", "none"], ["auc"])
    assert table["groups"].tolist() == ["3", "-", "-"]
    assert table["n"].tolist() == ["10", "-", "-"]
    assert table["auc"].tolist() == ["0.500 [not enough groups]", "0.700", "-"]
