"""The list of the embedded photographs: what a scene is, whose it is, and what a reader may rely on."""

from assay.data.fetch.photos import PINS, catalogue

TABLE = catalogue()
PHOTOS = TABLE[TABLE["generator"] == ""]


def test_every_picture_has_a_package_an_origin_and_a_licence_of_its_own() -> None:
    assert TABLE["file"].is_unique
    assert not TABLE.duplicated(["package", "member"]).any()
    assert set(TABLE["package"]) == set(PINS)
    for column in ("file", "package", "member", "group_id", "origin", "licence", "content"):
        assert (TABLE[column].str.strip() != "").all(), column


def test_scenes_are_many_and_no_kind_of_content_is_half_of_them() -> None:
    scenes = PHOTOS.drop_duplicates("group_id")
    assert len(scenes) >= 140
    assert scenes["content"].value_counts(normalize=True).max() < 0.4


def test_what_belongs_together_is_one_group() -> None:
    for column in ("role", "package", "generator"):
        assert TABLE.groupby("group_id")[column].nunique().max() == 1, column
    authors = PHOTOS["origin"].str.extract(r" by (.+)$")[0].str.casefold()
    assert PHOTOS.groupby(authors)["group_id"].nunique().max() == 1


def test_generated_pictures_are_of_people_and_so_are_the_photographs_kept_for_test_beside_them() -> None:
    generated, kept = TABLE[TABLE["generator"] != ""], PHOTOS[PHOTOS["role"] != ""]
    assert set(generated["content"]) == set(kept["content"]) == {"person"}
    assert (set(generated["role"]), set(kept["role"])) == ({""}, {"test"})
    assert not set(generated["group_id"]) & set(PHOTOS["group_id"])
