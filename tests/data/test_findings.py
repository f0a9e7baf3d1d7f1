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


def test_a_role_may_lack_a_class_where_that_is_allowed_but_not_all():
    rows = [("train", "a", "1"), ("train", "b", "2"), ("val", "a", "3")]
    frame = pd.DataFrame(rows, columns=["split", "label", "group_id"])
    roles = ["train", "val", "test"]
    found = roles_by_class(frame, roles, CLASSES, advice=ADVICE, optional=roles[1:])
    assert [finding.level for finding in found] == ["warning", "warning", "error"]
    assert "1 rows (1 low in 1, 0 high in 0 groups): no high" in found[1].text
    with pytest.raises(ValueError, match=r"for 1 reason\(s\)\n  role test: 0 rows.*raise prepare_vlm.roles.test"):
        raise_errors(found, what="the vlm line")
    strict = roles_by_class(frame, roles, CLASSES, advice=ADVICE)
    assert [finding.level for finding in strict] == ["warning", "error", "error"]
    skipped = roles_by_class(frame, ["val"], CLASSES, advice=ADVICE, skip=["b"])
    assert [finding.level for finding in skipped] == ["warning"]
    raise_errors(skipped, what="the vlm line")
