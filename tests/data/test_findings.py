"""Findings of three levels, and what each role holds of each class."""

from functools import partial

import pandas as pd
import pytest

from assay.data.findings import need, raise_errors, roles_by_class, shares_advice

ADVICE = partial(shares_advice, field="prepare_vlm.roles")
CLASSES = {"a": "low", "b": "high"}


def test_the_level_is_the_worst_that_holds():
    assert need("x", "t").level == "ok"
    assert need("x", "t", warning=True).level == "warning"
    assert need("x", "t", warning=True, error=True).level == "error"


def test_a_role_that_lacks_a_class_is_an_error_with_advice():
    rows = [("train", "a", "1"), ("train", "b", "2"), ("val", "a", "3")]
    frame = pd.DataFrame(rows, columns=["split", "label", "group_id"])
    found = roles_by_class(frame, ["train", "val", "test"], CLASSES, advice=ADVICE)
    assert [finding.level for finding in found] == ["warning", "error", "error"]
    assert "1 rows (1 low in 1, 0 high in 0 groups): no high" in found[1].text
    with pytest.raises(ValueError, match=r"for 2 reason\(s\)(.|\n)*  role test: 0 rows.*raise prepare_vlm.roles.test"):
        raise_errors(found, what="the vlm line")
    skipped = roles_by_class(frame, ["val"], CLASSES, advice=ADVICE, skip=["b"])
    assert [finding.level for finding in skipped] == ["warning"]
    raise_errors(skipped, what="the vlm line")
