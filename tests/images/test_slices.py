"""Slices: every real image is in all of them, and each forged one where its family stands."""

import numpy as np

from assay.images.slices import family_slices

LABELS = np.array([0, 1, 1, 0, 1, 1])
GENERATORS = np.array(["real", "paste", "strange", "real", "paste", "blend"], dtype=object)


def test_families_that_training_saw_and_those_it_did_not() -> None:
    masks = family_slices(LABELS, GENERATORS, seen={"real", "paste", "blend"})
    assert {name: mask.astype(int).tolist() for name, mask in masks.items()} == {
        "test": [1, 1, 0, 1, 1, 1],
        "unseen": [1, 0, 1, 1, 0, 0],
        "family.blend": [1, 0, 0, 1, 0, 1],
        "family.paste": [1, 1, 0, 1, 1, 0],
        "family.strange": [1, 0, 1, 1, 0, 0],
    }
    assert "unseen" not in family_slices(LABELS, GENERATORS, seen=set(GENERATORS))


def test_a_real_image_of_a_source_that_training_did_not_see_stays_real() -> None:
    masks = family_slices(LABELS, np.where(LABELS == 0, "camera", GENERATORS), seen={"real", "paste", "blend"})
    assert masks["test"].tolist() == [True, True, False, True, True, True]
    assert masks["unseen"].tolist() == [True, False, True, True, False, False]
    assert "family.camera" not in masks
