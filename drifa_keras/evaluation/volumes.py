"""Segmenting whole volumes, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drifa_keras.data import volumes
from drifa_keras.data.images import resize_array
from drifa_keras.models import predict


@dataclass(frozen=True, eq=False)
class SegmentedVolume:
    """The label map of a volume.

    Attributes:
        labels: Numbers of classes `(x, y, z)`, uint8, voxel by voxel those of the
            volumes that were read.
        affine: `(4, 4)` from voxels to millimetres.
    """

    labels: np.ndarray
    affine: np.ndarray

    def millilitres(self, classes) -> float:
        """The volume of some classes."""
        voxel = abs(np.linalg.det(self.affine[:3, :3])) / 1000
        return float(np.isin(self.labels, classes).sum() * voxel)

    def save(self, path: str | Path, values=None) -> Path:
        """Writes a NIfTI file (`.nii` or `.nii.gz`).

        Args:
            path: Where to; nothing is overwritten.
            values: The value written for each class; its number by default. BraTS
                writes 0, 1, 2 and 4 (`drifa_keras.data.volumes.LABELS`).
        """
        import nibabel

        path = Path(path)
        if not path.name.endswith((".nii", ".nii.gz")) or path.exists():
            why = "exists already" if path.exists() else "is no .nii or .nii.gz file"
            raise ValueError(f"{path} {why}. Choose another name.")
        labels = self.labels
        if values is not None:
            labels = np.asarray(values, "uint8")[labels]
        nibabel.save(nibabel.Nifti1Image(labels, self.affine), path)
        return path


def segment_volume(
    model,
    files: Mapping[str, str | Path],
    task: str | None = None,
    zscore: bool = True,
    batch_size: int = 32,
) -> SegmentedVolume:
    """Segments the axial slices of a whole volume.

    Every slice is scaled as `drifa_keras.data.brats2020` does it, resized to the size
    of the network's images, and classified; the probabilities are resized back
    (bilinear), and the most probable class is taken. Slices without brain are
    background, and so is what lies outside the brain in all volumes.

    Args:
        model: A `MultimodalModel` with a task that classifies every pixel.
        files: Modality to a skull-stripped NIfTI file `(x, y, z)`, all on one grid;
            modalities may be missing.
        task: Which task; may be left out where there is one.
        zscore: As for `drifa_keras.data.brats2020`.
        batch_size: Slices at a time.

    Returns:
        `SegmentedVolume`.

    Raises:
        ValueError: If a modality or the task is unknown, a file cannot be read, or the
            files are not on one grid.
    """
    unknown = sorted(set(files) - set(model.modalities))
    if unknown or not files:
        raise ValueError(
            f"`files` names the modalities {sorted(files)}. Those of the network are "
            f"{list(model.modalities)}."
        )
    maps = list(model.maps)
    if task is None and len(maps) == 1:
        task = maps[0]
    if task not in maps:
        raise ValueError(
            f"`task` must be one that classifies every pixel, of {maps}. Received: "
            f"task={task!r}."
        )
    read = {name: volumes.read_volume(path) for name, path in files.items()}
    first = next(iter(read.values()))
    for volume in read.values():
        same = volume.values.shape == first.values.shape
        if not same or not np.allclose(volume.affine, first.affine, atol=1e-2):
            raise ValueError(
                f"{volume.path} and {first.path} are not on one grid: shapes "
                f"{volume.values.shape} and {first.values.shape}. Resample one to the "
                "other."
            )
    slices = {
        name: volumes.axial(volumes.to_pixels(volume, zscore)[0])
        for name, volume in read.items()
    }
    brain = np.any([pixels > 0 for pixels in slices.values()], axis=0)
    labels = np.zeros(brain.shape, "uint8")
    rows = np.flatnonzero(brain.any(axis=(1, 2)))
    for start in range(0, len(rows), batch_size):
        lot = rows[start : start + batch_size]
        images = {
            name: _images(pixels[lot], model.modalities[name])
            for name, pixels in slices.items()
        }
        labels[lot] = _enlarged(predict(model, images)[task], brain.shape[1:])
    return SegmentedVolume(
        np.where(brain, labels, 0).transpose(2, 1, 0).astype("uint8"), first.affine
    )


def _images(slices, shape):
    """Slices as images of a shape `(height, width, channels)`."""
    resized = [resize_array(pixels[..., None], shape[:2]) for pixels in slices]
    return np.stack(resized).repeat(shape[2], axis=-1)


def _enlarged(probabilities, size):
    """The most probable class at another size, `(slices, *size)`."""
    from keras import ops

    resized = ops.image.resize(
        probabilities, size, "bilinear", data_format="channels_last"
    )
    return ops.convert_to_numpy(ops.argmax(resized, axis=-1)).astype("uint8")
