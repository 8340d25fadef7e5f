"""What the audit remembers of each image: a hash, a difference hash, a thumbnail."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from PIL import Image

from drifa_keras.data._checks import track
from drifa_keras.data.images import read_image
from drifa_keras.data.source import Source

SIDE = 64  # of the thumbnails
# Below half a grey level a thumbnail shows nothing but rounding.
_FLAT = 0.5


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """One row an image; row `i` belongs to row `i` of the source.

    Args:
        ids: (n,) what the images are called.
        sha256: (n,) hash of shape and decoded RGB pixels; "" where there is none.
        dhash: (n,) 64-bit difference hash (uint64), that of `imagehash.dhash`.
        thumbnails: (n, 4096) 64x64 grey, centred, of unit length (float32); zeros
            where the image is flat, black or unreadable; (n, 0) if none were made.
        brightness: (n,) mean grey level of the thumbnail.
        contrast: (n,) length of the centred thumbnail.
        size: (n, 2) width and height.
        mode: (n,) Pillow's mode of the file: "RGB", "L", "P", ...
        error: (n,) why the file is unreadable, else "".
        black: (n,) whether every pixel of the file is 0.
        absent: (n,) whether the source has no image here.
    """

    ids: np.ndarray
    sha256: np.ndarray
    dhash: np.ndarray
    thumbnails: np.ndarray
    brightness: np.ndarray
    contrast: np.ndarray
    size: np.ndarray
    mode: np.ndarray
    error: np.ndarray
    black: np.ndarray
    absent: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"Fingerprints({len(self)} images, {int((self.error != '').sum())} "
            f"unreadable, {int(self.black.sum())} black)"
        )

    @property
    def usable(self) -> np.ndarray:
        """(n,) whether there is a picture to compare: readable and not black."""
        return (self.sha256 != "") & ~self.black

    @property
    def pixel_codes(self) -> np.ndarray:
        """(n,) whole numbers, equal for equal pixels; -1 where not `usable`."""
        return codes_of(self.sha256, self.usable)

    def take(self, indices: Sequence[int] | np.ndarray) -> Fingerprints:
        """The fingerprints of the given rows, in the given order."""
        rows = np.asarray(indices)
        return Fingerprints(
            **{f.name: getattr(self, f.name)[rows] for f in fields(self)}
        )


class _Look(NamedTuple):
    sha256: str = ""
    dhash: int = 0
    thumbnail: np.ndarray | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    error: str = ""
    black: bool = False
    absent: bool = False


def fingerprint(
    source_or_paths: Source | Sequence[str | os.PathLike],
    progress: bool = True,
    *,
    modality: str | None = None,
    thumbnails: bool = True,
) -> Fingerprints:
    """Look at every image once, on all cores.

    Args:
        source_or_paths: a source, of files or of arrays, or a list of paths.
        progress: whether to show a progress bar when it takes a while.
        modality: which images of a source with several modalities.
        thumbnails: whether to make what near duplicates are found by; identical
            pixels need the hash alone.

    Returns:
        Fingerprints, 17 kB an image. Unreadable files are rows with an `error`.
    """
    if isinstance(source_or_paths, Source):
        name = the_only("modality", source_or_paths.modalities, modality)
        images, ids = source_or_paths.modalities[name], source_or_paths.ids
    else:
        images = _paths(source_or_paths)
        ids = np.asarray(images, dtype=str)
    n = len(images)
    table = Fingerprints(
        ids=ids,
        sha256=np.zeros(n, "<U64"),
        dhash=np.zeros(n, np.uint64),
        thumbnails=np.zeros((n, SIDE * SIDE if thumbnails else 0), np.float32),
        brightness=np.zeros(n, np.float32),
        contrast=np.zeros(n, np.float32),
        size=np.zeros((n, 2), np.int32),
        mode=np.zeros(n, "<U8"),
        error=np.zeros(n, object),
        black=np.zeros(n, bool),
        absent=np.zeros(n, bool),
    )
    look_at = _look if thumbnails else _hash_only
    for row, look in enumerate(_looks(images, look_at, "Fingerprints", progress)):
        for key, value in look._asdict().items():
            if key == "thumbnail":
                if value is not None:
                    table.thumbnails[row] = value
            else:
                getattr(table, key)[row] = value
    object.__setattr__(table, "error", table.error.astype(str))
    return table


def codes_of(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Number the distinct `values`; -1 where not `valid`."""
    codes = np.full(len(values), -1, np.int64)
    codes[valid] = np.unique(values[valid], return_inverse=True)[1].reshape(-1)
    return codes


def the_only(kind: str, names: Sequence[str], wanted: str | None) -> str:
    """The name asked for, or the one there is."""
    known = sorted(names)
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted not in known:
        raise ValueError(
            f"{kind}={wanted!r}: expected one of {known}; pass {kind}= to say which."
        )
    return wanted


def check_rows(fingerprints: Fingerprints, source: Source) -> None:
    """Refuse fingerprints that were taken of something else."""
    if not np.array_equal(fingerprints.ids, source.ids):
        raise ValueError(
            f"The fingerprints are of {len(fingerprints)} other images than the "
            f"{len(source)} cases of source {source.name!r}: expected the same ids in "
            "the same order; call fingerprint(source)."
        )


def _paths(paths) -> np.ndarray:
    if isinstance(paths, (str, os.PathLike)):
        raise ValueError(
            f"fingerprint got the single path {os.fspath(paths)!r}: expected a Source "
            "or a list of image files; read a folder with image_folder(path)."
        )
    paths = [os.fspath(path) for path in paths]
    table = np.empty(len(paths), object)
    table[:] = paths
    return table


def _looks(images, look: Callable, description: str, progress: bool) -> Iterator[_Look]:
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        # Black files are listed by the audit; a warning for each would hide it.
        warnings.filterwarnings("ignore", message=".*is black everywhere")
        try:
            yield from track(pool.map(look, images), len(images), description, progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(image) -> tuple[np.ndarray | None, _Look]:
    """RGB pixels and what is known of the image without comparing it."""
    if image is None:
        return None, _Look(absent=True)
    if not isinstance(image, str):
        if not image.any():
            return None, _Look(absent=True)
        mode = "RGB" if image.shape[-1] == 3 else "L"
        pixels = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
        return pixels, _Look(size=image.shape[1::-1], mode=mode)
    try:
        pixels = read_image(image)
        with Image.open(image) as header:
            size, mode = header.size, header.mode
    except (ValueError, OSError, MemoryError) as error:
        return None, _Look(error=str(error) or type(error).__name__)
    return pixels, _Look(size=size, mode=mode, black=not pixels.any())


def _hash_only(image) -> _Look:
    pixels, look = _read(image)
    return look if pixels is None else look._replace(sha256=_sha256(pixels))


def _look(image) -> _Look:
    pixels, look = _read(image)
    if pixels is None:
        return look
    grey = Image.fromarray(pixels).convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    values = np.asarray(
        grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32
    ).reshape(-1)
    brightness = values.mean()
    values = values - brightness
    contrast = float(np.linalg.norm(values))
    if contrast < _FLAT * SIDE:
        contrast, values = 0.0, np.zeros_like(values)
    else:
        values /= contrast
    return look._replace(
        sha256=_sha256(pixels),
        dhash=int.from_bytes(bits.tobytes(), "big"),
        thumbnail=values,
        brightness=float(brightness),
        contrast=contrast,
    )


def _sha256(pixels: np.ndarray) -> str:
    # With the shape: 2x8 and 4x4 images of one colour are not copies.
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(pixels)
    return digest.hexdigest()
