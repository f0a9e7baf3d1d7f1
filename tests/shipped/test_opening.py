"""The door of models: whatever goes wrong behind it is one sentence that names the folder and what to do."""

from pathlib import Path

import pytest

from assay.shipped.opening import Opening, Unverified


class PanicException(BaseException):
    """As what is written in Rust raises it."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("models/one/a.json: r: got 7"), r"models/one/a.json: r: got 7; run dvc repro one, .* --models"),
        (ValueError("no models/SHA256SUMS"), r"no models/SHA256SUMS; run dvc repro one, .*; --no-verify opens .*"),
        (ValueError("models/one is missing; run dvc repro two"), r"models/one is missing; run dvc repro two"),
        # Libraries name no folder.
        (ValueError("Expected 3"), r"models: Expected 3; run dvc repro one, .*"),
        (KeyError("BF16"), r"models: KeyError: 'BF16'; run dvc repro one, .*"),
        (OSError("x" * 10**6 + "\nmore"), r"models: OSError: x{300}; run dvc repro one, .*"),
        (PanicException("index out of bounds"), r"models: PanicException: index out of bounds; .*"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_goes_wrong_is_a_sentence_that_names_folder_and_remedy(error, said):
    with pytest.raises(ValueError) as caught, Opening(Path("models"), "one"):
        raise error
    assert caught.match(f"^{said}$")
    with pytest.raises(KeyboardInterrupt), Opening(Path("models"), "one"):
        raise KeyboardInterrupt


def test_only_of_models_that_nothing_vouches_for_a_later_fault_is_a_sentence(capsys):
    with (
        pytest.raises(ValueError, match=r"^IndexError: 7; the models in models are not verified$"),
        Unverified(Path("models")),
    ):
        raise IndexError(7)
    for error in (ValueError("of the user's"), OSError("disk"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, Unverified(Path("models")):
            raise error
        assert caught.value is error
    with Opening(Path("models"), "one", verify=False):
        pass
    assert capsys.readouterr().err == "the models in models are not verified (--no-verify)\n"
