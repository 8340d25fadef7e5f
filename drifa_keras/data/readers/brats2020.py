"""BraTS 2020: multi-modal MRI of gliomas with expert segmentations (D5)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from drifa_keras.data import volumes
from drifa_keras.data._checks import check_count, check_size, listing, track
from drifa_keras.data.images import resize_array, resize_nearest
from drifa_keras.data.readers import _layout
from drifa_keras.data.readers._dataset import Dataset
from drifa_keras.data.source import Source

MODALITIES = ("flair", "t1", "t1ce", "t2")
CLASSES = ("absent", "present")
Files = Mapping[str, Mapping[str, str | os.PathLike]]
_SUBJECTS = 369
_SUBJECT = re.compile(r"BraTS20_Training_\d{3}")
_NAMES = (
    "BraTS2020_TrainingData",
    "MICCAI_BraTS2020_TrainingData",
    "BraTS2020",
    "brats20-dataset-training-validation",
    "BraTS2020_tumour_crops",
)
_SUFFIXES = (".nii", ".nii.gz")
# Subject 355 of the common archive has W39_1998.09.19_Segm.nii for its _seg.nii.
_MISNAMED_MASK = re.compile(r".*_Segm\.nii(\.gz)?", re.IGNORECASE)
_LEAST_BRAIN = 0.01  # share of a slice
_GIB = 2**30


@dataclass(frozen=True, eq=False)
class BratsSlices:
    """Axial slices of BraTS 2020 with all that a `Source` does not hold.

    Args:
        source: the slices as uint8 images, one modality a sequence; no masks.
        labels: (n, height, width) of 0 background, 1 necrotic or non-enhancing core,
            2 oedema and 4 enhancing tumour.
        z: (n,) which slice of its volume, from 0.
        mean: modality to (n,), the mean inside the brain of the slice's volume.
        std: modality to (n,), its standard deviation there.
    """

    source: Source
    labels: np.ndarray
    z: np.ndarray
    mean: dict[str, np.ndarray]
    std: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.source)

    def region(self, name: str) -> np.ndarray:
        """Masks (n, height, width) of "WT", "TC" or "ET"."""
        return volumes.region(self.labels, name)

    @property
    def regions(self) -> np.ndarray:
        """Masks (n, height, width, 3) of WT, TC and ET, in this order."""
        return np.stack([self.region(name) for name in volumes.REGIONS], axis=-1)

    def intensities(self, modality: str) -> np.ndarray:
        """The scanner's values (n, height, width), NaN outside the brain.

        Exact to 0.02 standard deviations where no value was clipped and the slices
        were not resized; see `drifa_keras.data.volumes.to_pixels`.
        """
        z = volumes.to_z(self.source.modalities[modality][..., 0])
        spread = lambda values: values.astype(np.float32)[:, None, None]  # noqa: E731
        return z * spread(self.std[modality]) + spread(self.mean[modality])


def brats2020(
    root: str | os.PathLike | Files,
    *,
    modalities: Sequence[str] = MODALITIES,
    task: str = "tumor",
    segmentation: bool = False,
    region: str | None = "WT",
    subjects: Sequence[str] | None = None,
    every: int = 1,
    image_size: tuple[int, int] | None = None,
    zscore: bool = True,
    limit_gib: float = 4.0,
    verify: bool = True,
    progress: bool = True,
) -> Source:
    """Read axial slices of the BraTS 2020 training set.

    Menze B.H. et al., IEEE TMI 34(10), 1993-2024 (2015),
    doi:10.1109/TMI.2014.2377694; Bakas S. et al., Scientific Data 4, 170117 (2017),
    doi:10.1038/sdata.2017.117; Bakas S. et al., arXiv:1811.02629 (2018). For
    research, after registration with the organisers, with citation.

    Each volume is z-scored inside the brain and mapped to uint8 as
    `drifa_keras.data.volumes.to_pixels` says; parts of a brain that were cut after such
    scaling keep it with `zscore=False`. Slices in which any of the modalities
    shows brain on less than 1 % of the area are left out: a blank image would mean an
    absent modality. Slices lie along the third axis of the volume and are shown with
    the second axis downwards, as is usual for BraTS.

    Args:
        root: the folder with the subject folders `BraTS20_Training_XXX/`, or one
            above it. For volumes that lie otherwise, such as those of another year, a
            dict: subject to its files, the names of the modalities and "seg" to paths.
        modalities: which of flair, t1, t1ce and t2.
        task: name given to the classification of slices: tumour absent or present
            (any voxel labelled 1, 2 or 4, before resizing).
        segmentation: make the task the segmentation of slices: its targets are label
            maps of the classes "background", "necrotic core" (necrotic or
            non-enhancing, label 1), "oedema" (2) and "enhancing tumour" (4, which
            becomes class 3), scored by the regions WT, TC and ET.
        region: which tumour region becomes the mask of every modality: "WT", "TC",
            "ET", or None for no masks. `brats2020_slices` gives all three.
        subjects: names of the subjects to read; all by default.
        every: take each `every`-th slice of a volume.
        image_size: (height, width) to resize to; the volumes' own by default.
        zscore: False takes values as pixels, for volumes scaled to 0..255 before.
        limit_gib: refuse to make arrays larger than this.
        verify: warn if there are not 369 subjects.
        progress: whether to show a progress bar when it takes a while.

    Returns:
        A source with aligned modalities of one channel, and the subject as group.
    """
    if region is not None and region not in volumes.REGIONS:
        raise ValueError(
            f"region={region!r}: expected one of {', '.join(volumes.REGIONS)}, or None."
        )
    names = _check_modalities(modalities)
    slices = _read(
        root,
        modalities=names,
        task=task,
        subjects=subjects,
        every=every,
        image_size=image_size,
        zscore=zscore,
        limit_gib=limit_gib,
        verify=verify,
        progress=progress,
        copies=bool(segmentation) + (0 if region is None else len(names)),
    )
    source = slices.source
    if region is not None:
        mask = slices.region(region)
        source = replace(source, masks=dict.fromkeys(source.modalities, mask))
    if segmentation:
        source = replace(
            source,
            targets={task: volumes.class_maps(slices.labels)},
            class_names={task: volumes.CLASSES},
            regions={task: volumes.class_regions()},
        )
    return source


def brats2020_slices(
    root: str | os.PathLike | Files,
    *,
    modalities: Sequence[str] = MODALITIES,
    task: str = "tumor",
    subjects: Sequence[str] | None = None,
    every: int = 1,
    image_size: tuple[int, int] | None = None,
    zscore: bool = True,
    limit_gib: float = 4.0,
    verify: bool = True,
    progress: bool = True,
) -> BratsSlices:
    """Read BraTS 2020 as `brats2020` does, with labels and all three regions.

    The arguments are those of `brats2020`.
    """
    return _read(
        root,
        modalities=modalities,
        task=task,
        subjects=subjects,
        every=every,
        image_size=image_size,
        zscore=zscore,
        limit_gib=limit_gib,
        verify=verify,
        progress=progress,
        copies=0,
    )


def find(root: str | os.PathLike) -> Path | None:
    """The folder with the subject folders, at or below `root`."""
    return _layout.find_root(root, _NAMES, lambda path: bool(_subjects(path)))


def _read(
    root,
    *,
    modalities,
    task,
    subjects,
    every,
    image_size,
    zscore,
    limit_gib,
    verify,
    progress,
    copies,
) -> BratsSlices:
    names = _check_modalities(modalities)
    every = check_count(every, "every")
    size = None if image_size is None else check_size(image_size)
    files = _files(root, names, subjects)
    if verify and subjects is None and not isinstance(root, Mapping):
        FACTS.verify(["subjects"] * len(files), root)
    _check_memory(files, len(names) + 1 + copies, every, size, limit_gib)

    def read(subject):
        return _subject(files[subject], names, every, size, zscore)

    parts: list[_Part] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(read, files)
        try:
            parts += track(results, len(files), "Reading BraTS 2020", progress)
        except BaseException:
            # Without this a bad file is reported only after all others are read.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _check_shapes(parts, list(files))
    counts = [len(part.z) for part in parts]
    if not sum(counts):
        raise ValueError(
            f"No slice of the {len(files)} subject(s) has brain on {_LEAST_BRAIN:.0%} "
            f"of its area in {', '.join(names)}: expected whole volumes; lower `every`."
        )
    images = {}
    for name in names:
        images[name] = np.concatenate([part.images.pop(name) for part in parts])
    z = np.concatenate([part.z for part in parts])
    groups = np.repeat(list(files), counts)
    present = np.concatenate([part.present for part in parts])
    source = Source(
        name="brats2020",
        modalities={name: pixels[..., None] for name, pixels in images.items()},
        targets={task: present.astype(np.int64)},
        class_names={task: CLASSES},
        groups=groups,
        ids=[f"{group}/z{index:03d}" for group, index in zip(groups, z, strict=True)],
    )
    return BratsSlices(
        source=source,
        labels=np.concatenate([part.labels for part in parts]),
        z=z,
        mean={n: np.repeat([part.mean[n] for part in parts], counts) for n in names},
        std={n: np.repeat([part.std[n] for part in parts], counts) for n in names},
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """The slices of one subject."""

    images: dict[str, np.ndarray]
    labels: np.ndarray
    present: np.ndarray
    z: np.ndarray
    mean: dict[str, float]
    std: dict[str, float]


def _subject(files: dict[str, Path], names, every, size, zscore) -> _Part:
    mask = volumes.read_volume(files["seg"])
    labels = volumes.check_labels(mask)
    images, mean, std = {}, {}, {}
    brain = np.zeros(mask.values.shape, bool)
    for name in names:
        volume = volumes.read_volume(files[name])
        _check_aligned(volume, mask)
        images[name], mean[name], std[name] = volumes.to_pixels(volume, zscore)
        brain |= images[name] > 0
    tumour = labels > 0
    outside = int((tumour & ~brain).sum())
    if 2 * outside > int(tumour.sum()):
        raise ValueError(
            f"{mask.path} marks {outside} of {int(tumour.sum())} tumour voxels outside "
            "the brain: expected a mask of the same subject in the same orientation; "
            "fetch the file again or leave the subject out."
        )
    shape = labels.shape
    enough = np.ones(shape[2], bool)
    for pixels in images.values():
        covered = np.count_nonzero(pixels, axis=(0, 1))
        enough &= covered >= max(1, _LEAST_BRAIN * shape[0] * shape[1])
    z = np.flatnonzero(enough)
    z = z[z % every == 0]
    cut = volumes.axial(labels[:, :, z])
    present = cut.any(axis=(1, 2))
    planes = {name: volumes.axial(pixels[:, :, z]) for name, pixels in images.items()}
    if size is not None:
        planes = {name: _resized(pixels, size) for name, pixels in planes.items()}
        cut = resize_nearest(cut, size)
    return _Part(planes, cut, present, z, mean, std)


def _check_aligned(volume: volumes.Volume, mask: volumes.Volume) -> None:
    if volume.values.shape != mask.values.shape:
        raise ValueError(
            f"{volume.path} has the shape {volume.values.shape} but {mask.path.name} "
            f"has {mask.values.shape}: expected the same; fetch both again."
        )
    direction = np.abs(volume.affine[:3, :3])
    if direction[:, 2].argmax() != 2 or direction[2].argmax() != 2:
        raise ValueError(
            f"{volume.path} has no axial slices along its third axis (affine "
            f"{np.round(volume.affine[:3, :3], 2).tolist()}): reorient it first, e.g. "
            "with nibabel.as_closest_canonical."
        )
    # The misnamed mask comes from an older release, whose header is not the same;
    # that it lies on the brain is checked for every subject.
    if _MISNAMED_MASK.fullmatch(mask.path.name):
        return
    if not np.allclose(volume.affine, mask.affine, rtol=1e-3, atol=1e-2):
        raise ValueError(
            f"{volume.path} has another affine than {mask.path.name}: expected "
            "volumes on one grid; fetch both again or resample one to the other."
        )


def _resized(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if not len(planes):
        return np.zeros((0, *size), np.uint8)
    return np.stack([resize_array(plane[..., None], size)[..., 0] for plane in planes])


def _check_modalities(modalities) -> tuple[str, ...]:
    names = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    odd = [name for name in names if name not in MODALITIES]
    if odd or not names or len(set(names)) < len(names):
        raise ValueError(
            f"modalities={names} is not usable: expected some of "
            f"{', '.join(MODALITIES)}, each once."
        )
    return names


def _subjects(folder: Path) -> list[Path]:
    return [path for path in _layout.folders(folder) if _SUBJECT.fullmatch(path.name)]


def _files(root, names: Sequence[str], subjects) -> dict[str, dict[str, Path]]:
    """Subject to its files: those of the modalities and "seg"."""
    if isinstance(root, Mapping):
        return {
            subject: _given_files(subject, root[subject], names)
            for subject in _chosen(list(root), subjects, "the dict of files")
        }
    folder = find(root)
    if folder is None:
        raise FACTS.missing(root)
    known = [place.name for place in _subjects(folder)]
    return {
        subject: _found_files(folder / subject, names)
        for subject in _chosen(known, subjects, folder)
    }


def _chosen(known: list[str], subjects: Sequence[str] | None, where) -> list[str]:
    if subjects is None and known:
        return known
    subjects = [subjects] if isinstance(subjects, str) else list(subjects or ())
    unknown = [name for name in subjects if name not in known]
    if unknown or not subjects:
        raise ValueError(
            f"subjects={listing(unknown) or subjects} not found among the "
            f"{len(known)} subjects of {where}: expected names such as "
            f"{next(iter(known), 'BraTS20_Training_001')}."
        )
    return sorted(set(subjects))


def _given_files(subject: str, given, names: Sequence[str]) -> dict[str, Path]:
    needed = (*names, "seg")
    if not isinstance(given, Mapping) or not set(needed) <= set(given):
        raise ValueError(
            f"The files of subject {subject!r} are {given!r}: expected a dict with a "
            f"path for each of {', '.join(needed)}."
        )
    return {name: Path(given[name]) for name in needed}


def _found_files(place: Path, names: Sequence[str]) -> dict[str, Path]:
    files = {}
    for name in (*names, "seg"):
        candidates = [place / f"{place.name}_{name}{suffix}" for suffix in _SUFFIXES]
        if name == "seg":
            candidates += sorted(
                path for path in place.iterdir() if _MISNAMED_MASK.fullmatch(path.name)
            )
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise ValueError(
                f"{FACTS.title} lacks {candidates[0]} (or .nii.gz): expected "
                f"{', '.join(names)} and seg for each subject; fetch it again, or name "
                f"the complete subjects in `subjects`. {FACTS.where}"
            )
        files[name] = path
    return files


def _check_memory(files, planes: int, every, size, limit_gib) -> None:
    """Refuse to make `planes` arrays of all slices, of a byte a pixel, too large."""
    total = 0
    for table in files.values():
        columns, rows, depth = volumes.read_shape(table["seg"])
        height, width = size or (rows, columns)
        total += -(-depth // every) * height * width * planes
    if total > limit_gib * _GIB:
        raise ValueError(
            f"The slices of {len(files)} subjects take up to {total / _GIB:.1f} GiB, "
            f"more than limit_gib={limit_gib:g}: pass image_size=(64, 64), every=5, "
            "fewer subjects or modalities, or a higher limit_gib."
        )


def _check_shapes(parts: list[_Part], subjects: list[str]) -> None:
    for part, subject in zip(parts, subjects, strict=True):
        if part.labels.shape[1:] != parts[0].labels.shape[1:]:
            raise ValueError(
                f"The slices of {subject} are {part.labels.shape[1:]} and those of "
                f"{subjects[0]} {parts[0].labels.shape[1:]}: expected one size; "
                "pass image_size."
            )


FACTS = Dataset(
    name="brats2020",
    title="BraTS 2020",
    modality="flair, t1, t1ce, t2",
    task="tumor",
    classes=CLASSES,
    images=_SUBJECTS,
    licence="research use after registration with the organisers, with citation",
    citation=(
        "Menze B.H. et al. The multimodal brain tumor image segmentation benchmark "
        "(BRATS). IEEE TMI 34(10), 1993-2024 (2015). doi:10.1109/TMI.2014.2377694; "
        "Bakas S. et al. Scientific Data 4, 170117 (2017). "
        "doi:10.1038/sdata.2017.117; Bakas S. et al. arXiv:1811.02629 (2018)"
    ),
    doi="10.1109/TMI.2014.2377694",
    kaggle="awsaf49/brats20-dataset-training-validation",
    group_key="subject (folder BraTS20_Training_XXX)",
    merge_groups_by=(),
    # 201 / 35 / 133 of 369 subjects: DRIFA-Net, Sec. 4.1.
    split=(201 / 369, 35 / 369, 133 / 369),
    reader=brats2020,
    find=find,
    layout=(
        "MICCAI_BraTS2020_TrainingData/BraTS20_Training_XXX/ with "
        "BraTS20_Training_XXX_{flair,t1,t1ce,t2,seg}.nii or .nii.gz"
    ),
    page="https://www.med.upenn.edu/cbica/brats2020/data.html",
    counts={"subjects": _SUBJECTS},
)
