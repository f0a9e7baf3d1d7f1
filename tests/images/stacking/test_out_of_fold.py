"""The out-of-fold table: what scikit-learn makes of the same splits, and every way it can be wrong."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from assay.images.stacking.out_of_fold import (
    ANCHOR,
    HELD_OUT,
    embedding_columns,
    expert_frame,
    feature_matrix,
    feature_names,
    join_anchors,
    join_folds,
)

EXPERTS, DIM, FOLDS = ("one", "two"), 2, 3
Tables = list[pd.DataFrame]


def fold_table(num_rows: int = 30) -> pd.DataFrame:
    numbers = np.arange(num_rows)
    frame = pd.DataFrame({"sample_id": [f"s{n:02d}" for n in numbers], "group_id": [f"g{n // 2}" for n in numbers]})
    return frame.assign(label=numbers % 2, fold=numbers // 2 % FOLDS)


def tables_of(folds: pd.DataFrame, *, num_anchors: int = 5) -> Tables:
    """One table a fold, its rows and anchors shuffled: values that name their row."""
    rng = np.random.default_rng(0)
    anchors = pd.DataFrame({"sample_id": [f"a{n}" for n in range(num_anchors)]})
    anchors = anchors.assign(label=0, group_id="a", part=ANCHOR)
    tables = []
    for number in range(FOLDS):
        held_out = folds[folds["fold"] == number].drop(columns="fold").assign(part=HELD_OUT)
        keys = pd.concat([held_out, anchors], ignore_index=True).assign(base_fold=number)
        value = keys["sample_id"].str[1:].astype(float).to_numpy()
        parts = [expert_frame(e, np.stack([value, value + i], axis=1), -value) for i, e in enumerate(EXPERTS)]
        table = pd.concat([keys, *parts], axis=1)
        tables.append(table.iloc[rng.permutation(len(table))].reset_index(drop=True))
    return tables


def join(tables: Tables, folds: pd.DataFrame) -> np.ndarray:
    rows = join_folds(tables, folds, experts=EXPERTS, dim=DIM)
    return feature_matrix(rows.embeddings, rows.logits)


def test_every_sample_stands_once_and_rows_and_columns_have_one_order() -> None:
    folds = fold_table()
    rows = join_folds(tables_of(folds), folds, experts=EXPERTS, dim=DIM)
    assert rows.keys["sample_id"].tolist() == folds["sample_id"].tolist()
    assert rows.keys["base_fold"].tolist() == folds["fold"].tolist()
    assert rows.keys["label"].tolist() == folds["label"].tolist()
    value = np.arange(len(folds), dtype=np.float32)
    assert np.array_equal(rows.embeddings["two"], np.stack([value, value + 1], axis=1))
    assert np.array_equal(rows.logits["one"], -value)
    names = feature_names(EXPERTS, DIM)
    assert names == ["one_e000", "one_e001", "two_e000", "two_e001", "one_logit", "two_logit"]
    wanted = pd.concat(tables_of(folds)).set_index("sample_id").loc[folds["sample_id"], names]
    assert np.array_equal(feature_matrix(rows.embeddings, rows.logits), wanted.to_numpy(dtype=np.float32))


def test_the_order_of_rows_does_not_matter() -> None:
    folds = fold_table()
    tables = tables_of(folds)
    turned = [table.iloc[::-1].reset_index(drop=True) for table in tables]
    assert np.array_equal(join(tables, folds), join(turned, folds.iloc[::-1]))
    straight, backward = (join_anchors(side, experts=EXPERTS, dim=DIM) for side in (tables, turned))
    for left, right in zip(straight, backward, strict=True):
        assert left.keys.equals(right.keys)
        assert np.array_equal(left.embeddings["one"], right.embeddings["one"])


def doubled(tables: Tables) -> None:
    copy = tables[0][tables[0]["sample_id"] == "s06"].assign(base_fold=1)
    tables[1] = pd.concat([tables[1], copy], ignore_index=True)


def missing(tables: Tables) -> None:
    tables[0] = tables[0][tables[0]["sample_id"] != "s06"]


def unknown(tables: Tables) -> None:
    extra = tables[2].iloc[[0]].assign(sample_id="s99", part=HELD_OUT)
    tables[2] = pd.concat([tables[2], extra], ignore_index=True)


def no_column(tables: Tables) -> None:
    tables[:] = [table.drop(columns="two_e001") for table in tables]


def with_value(column: str, value: float) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[0].loc[tables[0]["sample_id"] == "s06", column] = value

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (doubled, "1 sample(s) stand in more than one fold's table: ['s06']"),
        (missing, "1 sample(s) missing ['s06'], 0 unknown []"),
        (unknown, "0 sample(s) missing [], 1 unknown ['s99']"),
        (no_column, "lack 1 column(s) of expert two: ['two_e001']"),
        (with_value("base_fold", 2), "1 sample(s) were embedded by networks of another fold, which saw them: ['s06']"),
        (with_value("two_e001", np.nan), "expert two gave NaN or infinite values for 1 sample(s): ['s06']"),
        (with_value("one_logit", np.inf), "expert one gave NaN or infinite values for 1 sample(s): ['s06']"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_rows(spoil: Callable[[Tables], None], message: str) -> None:
    folds = fold_table()
    tables = tables_of(folds)
    spoil(tables)
    with pytest.raises(ValueError, match=re.escape(message)):
        join(tables, folds)


def test_anchors_must_be_the_same_for_all_folds() -> None:
    tables = tables_of(fold_table())
    assert [len(stack.keys) for stack in join_anchors(tables, experts=EXPERTS, dim=DIM)] == [5, 5, 5]
    tables[2].loc[tables[2]["sample_id"] == "a3", "sample_id"] = "a7"
    with pytest.raises(ValueError, match=r"folds 0 and 2 embedded different anchors, among them \['a3', 'a7'\]"):
        join_anchors(tables, experts=EXPERTS, dim=DIM)
    tables[1].loc[tables[1]["sample_id"] == "a1", "one_e000"] = np.nan
    with pytest.raises(ValueError, match=r"expert one gave NaN .* \['a1'\]"):
        join_anchors(tables, experts=EXPERTS, dim=DIM)


class Keeper(ClassifierMixin, BaseEstimator):
    """A last level that keeps what it was fitted on."""

    def fit(self, features, labels):
        self.features_, self.classes_ = features, np.unique(labels)
        return self


def test_the_table_equals_the_one_scikit_learn_stacks() -> None:
    features, labels = make_classification(300, n_features=8, n_informative=4, random_state=0)
    fold = np.random.default_rng(1).integers(FOLDS, size=len(labels))
    models = {"one": LogisticRegression(), "two": LinearDiscriminantAnalysis()}
    ids = np.array([f"s{n:03d}" for n in range(len(labels))])
    tables = []
    for number in range(FOLDS):
        held_out = np.flatnonzero(fold == number)[::-1]
        keys = pd.DataFrame({"sample_id": ids[held_out], "label": labels[held_out], "group_id": ids[held_out]})
        parts = []
        for name, model in models.items():
            model.fit(features[fold != number], labels[fold != number])
            rows = features[held_out]
            parts.append(expert_frame(name, model.predict_proba(rows), model.decision_function(rows)))
        tables.append(pd.concat([keys.assign(base_fold=number, part=HELD_OUT), *parts], axis=1))
    joined = join_folds(tables, pd.DataFrame({"sample_id": ids, "fold": fold}), experts=EXPERTS, dim=2)
    ours = feature_matrix(joined.embeddings, joined.logits)

    splits = PredefinedSplit(fold)
    stack = StackingClassifier(list(models.items()), Keeper(), cv=splits, stack_method="decision_function")
    theirs = stack.fit(features, labels).final_estimator_.features_
    assert np.array_equal(ours[:, -2:], theirs.astype(np.float32))
    assert np.array_equal(joined.keys["label"], labels)
    for name, model in models.items():
        probs = cross_val_predict(model, features, labels, cv=splits, method="predict_proba")
        columns = [feature_names(EXPERTS, 2).index(column) for column in embedding_columns(name, 2)]
        assert np.array_equal(ours[:, columns], probs.astype(np.float32))
