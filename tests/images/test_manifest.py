"""The manifests of ``prepare``; how they are read is tested with what trains on them."""

from assay.images.manifest import sample_id


def test_sample_ids_name_paths() -> None:
    assert len({sample_id(f"a/{i}.jpg") for i in range(2000)}) == 2000
    # Stored in files of earlier runs.
    assert sample_id("data/forged/real/pexels-2560067.jpg_0000_real.jpg") == "888a45713e521c1f"
    assert sample_id("ä") == sample_id("ä")
    assert len(sample_id("")) == 16
