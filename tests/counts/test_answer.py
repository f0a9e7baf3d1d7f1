"""Questions from files and the choice of a variant, without a network."""

import pandas as pd
import pytest

from assay.core.io import write_json
from assay.counts.answer import answer, pick_variant, sentences
from assay.counts.prediction import CountPredictor


class Echo:
    """Predicts the length of each text, and remembers what it was asked."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], str | None]] = []

    def predict(self, questions: list[str], *, setting: str | None = None) -> pd.DataFrame:
        self.asked.append((tuple(questions), setting))
        rows = {"text": questions, "count": [float(len(text)) for text in questions], "bin": 1, "low": 2, "high": 9}
        rows |= {"interval_low": [len(text) for text in questions], "interval_high": 30}
        return pd.DataFrame(rows).assign(truncated=False, p_0=0.25, p_1=0.75)


def test_rows_keep_their_order_and_settings_of_their_own():
    questions = pd.DataFrame(
        {"text": ["aaa", "", "b", None, "cc"], "setting": ["x", "x", None, None, "x"]}, dtype=object
    )
    echo = Echo()
    rows = answer(echo, questions, setting="default")
    assert rows["status"].tolist() == ["ok", "error", "ok", "error", "ok"]
    assert rows["count"].fillna(-1).tolist() == [3, -1, 1, -1, 2]
    assert echo.asked == [(("aaa", "cc"), "x"), (("b",), "default")]
    assert rows["bin"].dtype == "Int64"
    assert rows["interval_low"].dtype == "Int64"
    said = sentences(rows, variant="echo", level=0.9)
    assert said[0] == "3.0 units, bin 1 (2-9) by echo, 90% interval 3-30, probabilities by bin 0.25 0.75"
    assert said[1] == "error: empty text"
    bare = rows.assign(interval_low=pd.array([pd.NA] * 5, dtype="Int64"))
    assert "interval" not in sentences(bare, variant="echo", level=0.9)[0]
    # What stands for no character comes from bytes of the shell that are not UTF-8.
    rows = answer(
        Echo(), pd.DataFrame({"text": ["a\udcff", "b"], "setting": [None, "\udcff"]}, dtype=object), setting=None
    )
    assert rows["reason"].str.startswith("invalid text: the surrogate U+DCFF stands at character").tolist() == [
        True,
        True,
    ]
    assert rows["text"].tolist() == ["a\\udcff", "b"]
    # Where nothing can be used there is a row each all the same.
    rows = answer(Echo(), pd.DataFrame({"text": ["", " "], "setting": None}, dtype=object), setting=None)
    assert rows["status"].tolist() == ["error", "error"]


def test_the_variant_chosen_for_the_purpose_is_taken(tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / name / "variant.json", {})
    with pytest.raises(ValueError, match=r"no .*choice\.json: run dvc repro evaluate_counts"):
        pick_variant(tmp_path, wanted=None, purpose="count")
    write_json(tmp_path / "choice.json", {"count": "a", "bin": "b"})
    assert pick_variant(tmp_path, wanted=None, purpose="bin") == tmp_path / "b"
    assert pick_variant(tmp_path, wanted="a", purpose="bin") == tmp_path / "a"
    with pytest.raises(ValueError, match=r"'c' is not trained .*trained: a, b"):
        pick_variant(tmp_path, wanted="c", purpose="bin")
    # A file of the folder can't lead out of it.
    write_json(tmp_path / "b" / "choice.json", {"count": "../a", "bin": "b"})
    with pytest.raises(ValueError, match=r"variant '\.\./a': give the name of a folder in .*b, no path"):
        pick_variant(tmp_path / "b", wanted=None, purpose="count")
    with pytest.raises(ValueError, match=r"name '\.\.': must be relative"):
        pick_variant(tmp_path / "b", wanted="..", purpose="count")


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ({"a": 1}, r"questions\[1\] can't be read: no text: dict"),
        (b"caf\xe9", "no text: bytes"),
        (None, "empty text"),
        (" \n", "empty text"),
        ("half \ud83d", r"invalid text: the surrogate U\+D83D stands at character 6"),
    ],
)
def test_what_a_tokenizer_would_drop_or_stumble_over_is_told(question, told):
    predictor = CountPredictor("any", None, None, None, None, 8, None)
    with pytest.raises(ValueError, match=told):
        predictor.predict(["how many?", question])
    rows = answer(Echo(), pd.DataFrame({"text": ["a", question], "setting": None}, dtype=object), setting=None)
    assert rows["status"].tolist() == ["ok", "error"]
