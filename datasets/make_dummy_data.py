"""Make small, synthetic copies of the data sets, to try the readers and builders on.

    python datasets/make_dummy_data.py FOLDER [NAME ...]

Folders, file names and formats are those of the publishers; every picture is noise. A
class has ten groups, and BraTS nine subjects, so that all parts of a split get every
class.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

GROUPS = 10
SUBJECTS = 9


def ham10000(root: Path) -> None:
    """Two images of each lesion, in two folders and a table."""
    folder = root / "HAM10000"
    classes = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    rows = []
    for number in range(2 * GROUPS * len(classes)):
        lesion = number // 2
        image = f"ISIC_{number:07d}"
        place = folder / f"HAM10000_images_part_{1 + number % 2}"
        _picture(place / f"{image}.jpg", number)
        rows.append((f"HAM_{lesion:07d}", image, classes[lesion % len(classes)]))
    with (folder / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("lesion_id", "image_id", "dx"), *rows])


def sipakmed(root: Path) -> None:
    """Two cells of each slide, of many sizes."""
    number = 0
    for kind in (
        "Dyskeratotic",
        "Koilocytotic",
        "Metaplastic",
        "Parabasal",
        "Superficial-Intermediate",
    ):
        folder = root / "SIPaKMeD" / f"im_{kind}" / f"im_{kind}" / "CROPPED"
        for slide in range(1, GROUPS + 1):
            for cell in (1, 2):
                path = folder / f"{slide:03d}_{cell:02d}.bmp"
                _picture(path, number, (20 + number % 7, 18 + number % 5))
                number += 1


def brain_tumor_mri(root: Path) -> None:
    """Eight training images and two test images of each class, grey."""
    folder = root / "brain-tumor-mri-dataset"
    number = 0
    for part, count in (("Training", GROUPS - 2), ("Testing", 2)):
        for kind in ("glioma", "meningioma", "notumor", "pituitary"):
            for image in range(count):
                path = folder / part / kind / f"{part[:2]}-{kind[:2]}_{image:04d}.jpg"
                _picture(path, number, mode="L")
                number += 1


def iq_othnccd(root: Path) -> None:
    """Ten images of each class."""
    folder = root / "The IQ-OTHNCCD lung cancer dataset"
    number = 0
    for kind in ("Bengin", "Malignant", "Normal"):
        for image in range(1, GROUPS + 1):
            _picture(folder / f"{kind} cases" / f"{kind} case ({image}).jpg", number)
            number += 1


def brats2020(root: Path) -> None:
    """Nine subjects with brain in six of eight slices and tumour in four of those."""
    import nibabel

    folder = root / "BraTS2020_TrainingData" / "MICCAI_BraTS2020_TrainingData"
    shape = (20, 24, 8)
    brain = np.zeros(shape, bool)
    brain[4:-4, 4:-4, 1:-1] = True
    labels = np.zeros(shape, np.uint8)
    labels[6:10, 6:12, 2:6] = 2
    labels[7:9, 7:10, 3:5] = 1
    labels[7, 7, 4] = 4
    for number in range(1, SUBJECTS + 1):
        rng = np.random.default_rng(number)
        name = f"BraTS20_Training_{number:03d}"
        volumes = {
            modality: np.where(brain, rng.integers(50, 900, shape), 0).astype(np.int16)
            for modality in ("flair", "t1", "t1ce", "t2")
        }
        (folder / name).mkdir(parents=True)
        for suffix, values in {**volumes, "seg": labels}.items():
            image = nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]))
            nibabel.save(image, folder / name / f"{name}_{suffix}.nii.gz")


def _picture(path: Path, seed: int, size=(24, 20), mode="RGB") -> None:
    """Coarse noise, so that no two pictures are near-duplicates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    image.convert(mode).save(path)


MAKERS = {
    maker.__name__: maker
    for maker in (ham10000, sipakmed, brain_tumor_mri, iq_othnccd, brats2020)
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make synthetic copies of data sets.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MAKERS))
    arguments = parser.parse_args()
    for name in arguments.names or MAKERS:
        if name not in MAKERS:
            parser.error(f"unknown data set {name!r}: expected {', '.join(MAKERS)}")
        MAKERS[name](arguments.folder)
