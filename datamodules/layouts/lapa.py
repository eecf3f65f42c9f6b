"""LaPa as published (Liu et al., AAAI 2020): ``{train,val,test}/{images,labels,landmarks}``, one stem per face.

Pictures have any size; label maps are single-channel PNGs of class ids 0..10; landmarks are optional here. Files are
counted, never assumed: copies of the data set in circulation hold between 18,168 and 18,176 training faces.
"""

from __future__ import annotations

from datamodules.labels import LAPA
from datamodules.layouts.layout import IMAGE_SUFFIXES, Layout, files_by_stem
from datamodules.layouts.sample import Sample
from engine.errors import DataError


class LaPa(Layout):
    """Reads a folder in LaPa's published layout.

    Args:
        root: the folder that holds ``train``, ``val`` and ``test``.
    """

    name = "lapa"
    labels = LAPA
    title = "LaPa"
    published = (
        "train|val|test / images/*.jpg, labels/*.png (class ids 0..10)\n"
        "Do one of:\n"
        "  - put the data set there: https://github.com/lucia123/lapa-dataset (non-commercial research)"
    )

    def samples(self, split: str, labelled: bool = True) -> list[Sample]:
        """The faces of a split, sorted by id.

        Args:
            split: ``train``, ``val`` or ``test``.
            labelled: require a label map for every picture; otherwise only pictures are looked at.

        Raises:
            DataError: if the folder is absent or empty, two pictures share a stem, or a label map is missing.
        """
        folder = self.root / split
        images = files_by_stem(folder / "images", IMAGE_SUFFIXES)
        if not images:
            raise self.missing(folder / "images")
        if not labelled:
            return [Sample(stem, image) for stem, image in sorted(images.items())]
        labels = files_by_stem(folder / "labels", (".png",))
        if not labels:
            raise self.missing(folder / "labels")
        unlabelled = sorted(images.keys() - labels.keys())
        if unlabelled:
            raise DataError(
                f"{len(unlabelled)} of {len(images)} pictures in {folder / 'images'} have no label map, the first is "
                f"{images[unlabelled[0]].name}.\n"
                f"Expected: {folder / 'labels' / (unlabelled[0] + '.png')}\n"
                f"Add the label maps, or move the unlabelled pictures out of this split."
            )
        landmarks = files_by_stem(folder / "landmarks", (".txt",))
        return [Sample(stem, image, labels[stem], landmarks.get(stem)) for stem, image in sorted(images.items())]
