"""NIfTI volumes to arrays, label regions and 8-bit pixels.

Needs nibabel, the extra `brats`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REGIONS: dict[str, tuple[int, ...]] = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
LABELS = (0, 1, 2, 4)
CLASSES = ("background", "necrotic core", "oedema", "enhancing tumour")  # of LABELS
# BraTS has 240 x 240 x 155 = 8.9 million voxels; a broken header may claim anything.
_MOST_VOXELS = 2**27
_HEADER_BYTES = 348
_MOST_EXTRA_BYTES = 2**20
_STEPS = 25  # grey levels a standard deviation
_MIDDLE = 128
_MOST_CLIPPED = 0.25  # share of the brain


@dataclass(frozen=True, eq=False)
class Volume:
    """One 3-D image.

    Args:
        path: the file it was read from.
        values: array (x, y, z) with finite numbers, scaled as the header says.
        affine: (4, 4) from voxels to millimetres.
    """

    path: Path
    values: np.ndarray
    affine: np.ndarray


def read_shape(path: str | os.PathLike) -> tuple[int, ...]:
    """The shape that the header of a NIfTI file gives, without its voxels."""
    path = Path(path)
    with _naming(path), _open(path) as file:
        return _checked_header(file.read(_HEADER_BYTES))[1]


def read_volume(path: str | os.PathLike) -> Volume:
    """Read one 3-D NIfTI-1 file, plain or gzipped whatever its suffix says.

    Raises:
        ValueError: if the file is missing, truncated, corrupt or no NIfTI file; is
            not 3-D; has complex or colour voxels, NaN or infinite values, an
            unusable affine, or more voxels than 2**27.
    """
    nibabel = _nibabel()
    path = Path(path)
    with _naming(path):
        with _open(path) as file:
            head = file.read(_HEADER_BYTES)
            header, shape = _checked_header(head)
            offset = float(header["vox_offset"])
            if not 0 <= offset <= _MOST_EXTRA_BYTES:
                raise _Unusable(f"its voxels start at byte {offset:g}")
            needed = (
                int(offset) + int(np.prod(shape)) * header.get_data_dtype().itemsize
            )
            body = file.read(max(0, needed - len(head)))
            if len(head) + len(body) < needed:
                raise _Unusable(
                    f"it is truncated: {len(head) + len(body)} bytes of {needed}"
                )
            # Reading to the end makes gzip compare its checksum.
            if len(file.read(_MOST_EXTRA_BYTES)) == _MOST_EXTRA_BYTES:
                raise _Unusable("it goes on long after its voxels end")
        image = nibabel.Nifti1Image.from_bytes(head + body)
        affine = np.asarray(image.affine, np.float64)
        values = np.asarray(image.dataobj).reshape(shape)
        if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-9:
            raise _Unusable("its affine is not finite and invertible")
        if values.dtype.kind == "f":
            bad = values.size - int(np.isfinite(values).sum())
            if bad:
                raise _Unusable(
                    f"{bad} of its {values.size} voxels are NaN or infinite"
                )
    return Volume(path, values, affine)


def check_labels(volume: Volume) -> np.ndarray:
    """The labels of a segmentation as uint8, refusing all but 0, 1, 2 and 4."""
    known = np.zeros(volume.values.shape, bool)
    for label in LABELS:
        known |= volume.values == label
    odd = volume.values[~known]
    if odd.size:
        raise ValueError(
            f"{volume.path} has the label {odd[0]:g}: expected only 0 (background), 1 "
            "(necrotic or non-enhancing core), 2 (oedema) and 4 (enhancing tumour); "
            "is it a segmentation of BraTS 2017-2020?"
        )
    return volume.values.astype(np.uint8)


def region(labels: np.ndarray, name: str) -> np.ndarray:
    """Boolean mask of one region of BraTS labels.

    Args:
        labels: array of 0, 1, 2 and 4.
        name: "WT" (whole tumour: 1, 2, 4), "TC" (tumour core: 1, 4) or "ET"
            (enhancing tumour: 4).
    """
    if name not in REGIONS:
        raise ValueError(f"region={name!r}: expected one of {', '.join(REGIONS)}.")
    return np.isin(labels, REGIONS[name])


def class_maps(labels: np.ndarray) -> np.ndarray:
    """BraTS labels 0, 1, 2 and 4 numbered without a gap, as `CLASSES` are; int8."""
    numbers = np.full(LABELS[-1] + 1, -1, np.int8)
    numbers[list(LABELS)] = range(len(LABELS))
    return numbers[labels]


def class_regions() -> dict[str, tuple[int, ...]]:
    """Region name to the numbers of its classes in `class_maps`."""
    return {
        name: tuple(LABELS.index(label) for label in labels)
        for name, labels in REGIONS.items()
    }


def to_pixels(volume: Volume, zscore: bool = True) -> tuple[np.ndarray, float, float]:
    r"""Z-score a volume inside the brain and map it to uint8.

    The brain is where a value is not 0 (BraTS volumes are skull-stripped). With the
    mean and the standard deviation of those voxels,

    \( z = (v - mean) / std, \qquad pixel = clip(round(25 z + 128), 1, 255) \)

    inside and 0 outside, so that 0 always means "no brain". `to_z` goes back, exact
    to 0.02 standard deviations for z in [-5.08, 5.08]; beyond, values are clipped.

    Args:
        volume: what `read_volume` gave.
        zscore: False takes the values as pixels already, for volumes that were scaled
            before, such as parts of a brain on the scale of the whole: with the mean
            128 and the standard deviation 25 above.

    Returns:
        uint8 pixels of the volume's shape, the mean, and the standard deviation.
    """
    brain = volume.values != 0
    inside = volume.values[brain].astype(np.float64)
    if not inside.size:
        raise ValueError(
            f"{volume.path} is 0 everywhere: expected a brain on a background of 0; "
            "fetch the file again or leave the subject out."
        )
    if zscore:
        mean, std = float(inside.mean()), float(inside.std())
    else:
        mean, std = float(_MIDDLE), float(_STEPS)
        clipped = float(((inside < 0.5) | (inside > 255.5)).mean())
        if clipped > _MOST_CLIPPED:
            raise ValueError(
                f"{volume.path} has {clipped:.0%} of its brain outside 1..255, up to "
                f"{inside.max():g}: zscore=False expects values that are pixels "
                "already; leave it out."
            )
    if not (np.isfinite(std) and std > 1e-9 * max(1.0, abs(mean))):
        raise ValueError(
            f"{volume.path} has the same value ({mean:g}) in the whole brain: expected "
            "an image; fetch the file again or leave the subject out."
        )
    pixels = np.zeros(volume.values.shape, np.uint8)
    scaled = np.rint((inside - mean) * (_STEPS / std) + _MIDDLE)
    pixels[brain] = np.clip(scaled, 1, 255).astype(np.uint8)
    return pixels, mean, std


def to_z(pixels: np.ndarray) -> np.ndarray:
    """Standard deviations from the mean of the brain, from pixels of `to_pixels`.

    Background comes back as NaN. Multiply by the standard deviation and add the mean
    to get the scanner's values.
    """
    pixels = np.asarray(pixels)
    z = (pixels.astype(np.float32) - _MIDDLE) / _STEPS
    return np.where(pixels == 0, np.float32(np.nan), z)


def axial(values: np.ndarray) -> np.ndarray:
    """Slices (z, rows, columns) of a volume (x, y, z), as BraTS is usually shown."""
    return np.ascontiguousarray(values.transpose(2, 1, 0))


class _Unusable(Exception):
    """What is wrong with a file, without its name."""


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one ValueError that names the file."""
    if not path.is_file():
        raise ValueError(f"The volume {path} does not exist; check the path.")
    remedy = "fetch the file again or leave the subject out."
    try:
        yield
    except ImportError:
        raise
    except _Unusable as error:
        raise ValueError(f"{path} cannot be used: {error}; {remedy}") from error
    # gzip, zlib, struct and nibabel raise many kinds for one cause.
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(
            f"{path} is truncated or no NIfTI file ({type(error).__name__}: {text}); "
            f"{remedy}"
        ) from error


def _open(path: Path):
    # Copies exist whose .nii files are gzipped and the other way round.
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _checked_header(head: bytes):
    if len(head) < _HEADER_BYTES:
        raise _Unusable(f"it holds {len(head)} bytes, less than a NIfTI header")
    if head[344:347] != b"n+1":
        raise _Unusable("it has no NIfTI-1 header")
    header = _nibabel().Nifti1Header(head)
    kind = header.get_data_dtype()
    if kind.kind not in "iuf":
        raise _Unusable(f"its voxels are of type {kind}, expected plain numbers")
    shape = tuple(int(size) for size in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise _Unusable(f"its shape is {shape}, expected three dimensions")
    if int(np.prod(shape, dtype=object)) > _MOST_VOXELS:
        raise _Unusable(f"its header claims {shape} voxels, more than any scan")
    return header, shape


def _nibabel():
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(
            "Reading NIfTI volumes needs nibabel: pip install 'drifa_keras[brats]'."
        ) from error
    return nibabel
