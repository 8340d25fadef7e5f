"""Phantoms: made-up modalities with lesions whose place and class are known.

The class of a lesion shows in its shape and texture alone. Its place, size,
orientation and contrast, and everything around it, are drawn without looking at the
class, so that a model can only be right by looking at the lesion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from drifa_keras.data._checks import check_count, check_seed
from drifa_keras.data.source import Source

_CHUNK_PIXELS = 1 << 20  # bounds the memory of one step of the drawing


@dataclass(frozen=True)
class _Kind:
    task: str
    class_names: tuple[str, ...]
    shapes: tuple[str, ...]
    lesion: tuple[float, ...]  # grey levels added at full contrast, per channel
    background: Callable


def phantoms(
    n: int = 1200,
    image_size: int = 32,
    modalities: Sequence[str] = ("dermoscopy", "ct"),
    difficulty: float = 0.3,
    seed: int = 0,
    aligned: bool = False,
    lesion_size: float = 1.0,
    segmentation: bool = False,
) -> list[Source]:
    """Make images of made-up modalities, with lesions of several classes.

    Args:
        n: images of each modality.
        image_size: height and width, at least 16.
        modalities: any of "dermoscopy" (RGB, four classes), "ct" (grey, three),
            "pap_smear" (RGB, three) and "mri" (grey, three).
        difficulty: 0 (plain) to 1 (hard): lowers contrast, raises noise.
        seed: the same seed gives the same images, whatever else is asked for.
        aligned: give one source with all modalities, in which each case has one
            lesion of one class at one place, instead of unrelated sources.
        lesion_size: factor on the radius of the lesions, at most 1. At 1 they cover a
            fifth of the image, and most of them its centre; small ones lie anywhere.
            `image_size * lesion_size` must be at least 16.
        segmentation: make label maps the targets of each task: "background", and the
            class of the lesion in its pixels. The regions are "lesion" (of whichever
            class) and each class by itself.

    Returns:
        A list of sources: one a modality, each with its own task, or a single one
        with the task "lesion" when `aligned`. `masks` hold the lesions' pixels;
        images of one made-up patient share a group.
    """
    n, seed = check_count(n, "n"), check_seed(seed)
    if not 0 < lesion_size <= 1:
        raise ValueError(
            f"lesion_size={lesion_size!r} is not usable: expected more than 0, at most "
            "1."
        )
    if check_count(image_size, "image_size") * lesion_size < 16:
        raise ValueError(
            f"image_size={image_size} is too small for a lesion: expected "
            f"{math.ceil(16 / lesion_size)} or more."
        )
    if not 0 <= difficulty <= 1:
        raise ValueError(
            f"difficulty={difficulty!r} is not usable: expected 0 (plain) to 1 (hard)."
        )
    names = [modalities] if isinstance(modalities, str) else list(modalities)
    for name in names:
        if name not in _KINDS or names.count(name) > 1:
            raise ValueError(
                f"modalities={names} is not usable: expected different ones of "
                f"{', '.join(_KINDS)}."
            )
    if not names:
        raise ValueError(
            f"modalities is empty: expected at least one of {', '.join(_KINDS)}."
        )
    if aligned:
        sources = [_aligned(n, image_size, names, difficulty, seed, lesion_size)]
    else:
        sources = [
            _single(n, image_size, name, difficulty, seed, lesion_size)
            for name in names
        ]
    return [_segmented(source) for source in sources] if segmentation else sources


def _single(n, size, name, difficulty, seed, lesion_size) -> Source:
    kind = _KINDS[name]
    rng = np.random.default_rng([seed, list(_KINDS).index(name)])
    cases = _Cases(n, len(kind.shapes), lesion_size, rng)
    images, mask = _draw(kind, kind.shapes, cases, size, difficulty, rng)
    return Source(
        name=f"phantom_{name}",
        modalities={name: images},
        targets={kind.task: cases.labels},
        class_names={kind.task: kind.class_names},
        groups=np.asarray([f"{name}-patient-{p:05d}" for p in cases.patients]),
        masks={name: mask},
    )


def _aligned(n, size, names, difficulty, seed, lesion_size) -> Source:
    shapes = ("disc", "irregular", "ring")
    rng = np.random.default_rng([seed, 1000])
    cases = _Cases(n, len(shapes), lesion_size, rng)
    images, masks = {}, {}
    for name in names:
        rng = np.random.default_rng([seed, 2000, list(_KINDS).index(name)])
        images[name], masks[name] = _draw(
            _KINDS[name], shapes, cases, size, difficulty, rng
        )
    return Source(
        name="phantom_aligned",
        modalities=images,
        targets={"lesion": cases.labels},
        class_names={"lesion": shapes},
        groups=np.asarray([f"patient-{p:05d}" for p in cases.patients]),
        masks=masks,
    )


def _segmented(source: Source) -> Source:
    """The source with the pixels of its lesions, by class, as targets."""
    ((task, labels),) = source.targets.items()
    kinds = source.class_names[task]
    lesion = next(iter(source.masks.values()))
    regions = {kind: (label,) for label, kind in enumerate(kinds, start=1)}
    return replace(
        source,
        targets={task: np.where(lesion, labels[:, None, None] + 1, 0)},
        class_names={task: ("background", *kinds)},
        regions={task: {"lesion": tuple(range(1, len(kinds) + 1)), **regions}},
    )


class _Cases:
    """What is true of a case whatever it is pictured with."""

    def __init__(self, n: int, classes: int, lesion_size: float, rng):
        # About a quarter of the images show a patient seen before.
        self.patients = np.concatenate([[0], np.cumsum(rng.random(n - 1) > 0.25)])
        count = int(self.patients[-1]) + 1
        of_patient = rng.permutation(np.arange(count) % classes)
        self.labels = of_patient[self.patients].astype(np.int64)
        self.tone = rng.uniform(-1, 1, count)[self.patients]
        # In units of the image: centre, radius, then orientation and squeeze.
        self.centre = rng.uniform(0.34 * lesion_size, 1 - 0.34 * lesion_size, (n, 2))
        self.radius = rng.uniform(0.22, 0.3, n) * lesion_size
        self.angle = rng.uniform(0, 2 * np.pi, n)
        self.squeeze = rng.uniform(0.8, 1.0, n)
        self.phase = rng.uniform(0, 2 * np.pi, (n, 3))
        self.lobes = rng.integers(5, 8, n)

    def __getitem__(self, rows: slice) -> _Cases:
        part = object.__new__(_Cases)
        part.__dict__ = {key: value[rows] for key, value in self.__dict__.items()}
        return part


def _draw(kind, shapes, cases, size, difficulty, rng):
    n, channels = len(cases.labels), len(kind.lesion)
    images = np.empty((n, size, size, channels), np.uint8)
    masks = np.empty((n, size, size), bool)
    step = max(1, _CHUNK_PIXELS // size**2)
    for start in range(0, n, step):
        rows = slice(start, min(n, start + step))
        part = cases[rows]
        pattern, masks[rows] = _lesions(part, shapes, size)
        picture = kind.background(part, size, rng)  # (n, size, size, channels)
        contrast = (1 - 0.7 * difficulty) * rng.uniform(0.65, 1.35, len(pattern))
        pattern *= contrast[:, None, None].astype(np.float32)
        picture += pattern[..., None] * np.asarray(kind.lesion, np.float32)
        noise = rng.standard_normal(picture.shape, dtype=np.float32)
        picture += (8 + 50 * difficulty) * _blur(noise)
        images[rows] = np.clip(np.rint(_blur(picture)), 0, 255)
    return images, masks


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres in units of the image: y (size, 1) and x (1, size)."""
    line = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return line[:, None], line[None, :]


def _column(values: np.ndarray) -> np.ndarray:
    """(n,) as float32 (n, 1, 1), to go with pictures (n, size, size)."""
    return values.astype(np.float32)[:, None, None]


def _lesions(cases, shapes, size):
    """Lesion patterns of mean 1 over the lesion, and the lesions' masks."""
    y, x = _grid(size)
    dy, dx = y - _column(cases.centre[:, 0]), x - _column(cases.centre[:, 1])
    cos, sin = _column(np.cos(cases.angle)), _column(np.sin(cases.angle))
    radius = _column(cases.radius)
    u = (cos * dx + sin * dy) / radius
    v = (cos * dy - sin * dx) / (radius * _column(cases.squeeze))
    r, theta = np.hypot(u, v), np.arctan2(v, u)
    # Antialiased edges, one pixel wide at any image size.
    soft = 1 / (size * radius)

    def inside(distance, edge):
        return np.clip((edge - distance) / soft + 0.5, 0, 1)

    kinds = np.asarray(shapes)[cases.labels]
    edge = np.ones_like(r)
    jagged = kinds == "irregular"
    wave = np.cos(_column(cases.lobes) * theta + _column(cases.phase[:, 0]))
    edge[jagged] = (1 + 0.42 * wave)[jagged]
    pattern = inside(r, edge)
    mask = r < edge
    ring = kinds == "ring"
    pattern[ring] *= 1 - inside(r, 0.6)[ring]
    spotted = kinds == "spotted"
    waves = np.sin(2 * np.pi * u / 0.8 + _column(cases.phase[:, 1]))
    waves = waves * np.sin(2 * np.pi * v / 0.8 + _column(cases.phase[:, 2]))
    pattern[spotted] *= np.clip(0.5 + 2.5 * waves, 0, 1)[spotted]
    # Without this a ring would be darker on average than a disc, and the mean of
    # the image would give its class away.
    mean = (pattern * mask).sum((1, 2)) / np.maximum(1, mask.sum((1, 2)))
    return (pattern / _column(np.maximum(mean, 0.2))).astype(np.float32), mask


def _clouds(n: int, size: int, cells: int, rng) -> np.ndarray:
    """Smooth random fields in about -1..1, (n, size, size)."""
    knots = rng.uniform(-1, 1, (n, cells, cells)).astype(np.float32)
    place = np.linspace(0, cells - 1, size)
    weights = np.clip(1 - np.abs(place[:, None] - np.arange(cells)), 0, 1)
    weights = weights.astype(np.float32)
    return np.einsum("si,nij,tj->nst", weights, knots, weights, optimize=True)


def _blur(pictures: np.ndarray) -> np.ndarray:
    """What an imaging system does: spread each pixel a little, (n, size, size, c).

    Images sharp to the pixel, and white noise, would lose much when augmentation
    interpolates, and training images would not look like test images.
    """
    for axis in (1, 2):
        pad = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        padded = np.pad(pictures, pad, mode="edge")
        left, middle, right = (
            np.moveaxis(padded, axis, 0)[i : i + pictures.shape[axis]] for i in range(3)
        )
        pictures = np.moveaxis((left + 2 * middle + right) / 4, 0, axis)
    return pictures


def _strokes(n: int, size: int, count: int, width: float, rng) -> np.ndarray:
    """Thin, slightly bent lines in 0..1, (n, size, size)."""
    y, x = _grid(size)
    out = np.zeros((n, size, size), np.float32)
    for _ in range(count):
        angle, offset = rng.uniform(0, np.pi, n), rng.uniform(-0.45, 0.45, n)
        cos, sin = _column(np.cos(angle)), _column(np.sin(angle))
        along = cos * (x - 0.5) + sin * (y - 0.5)
        across = cos * (y - 0.5) - sin * (x - 0.5) - _column(offset)
        across = across - _column(rng.uniform(-0.6, 0.6, n)) * along**2
        shown = _column(rng.random(n) < 0.6)
        line = np.clip(1.5 - np.abs(across) * size / width, 0, 1) * shown
        out = np.maximum(out, line)
    return out


def _ellipse(size: int, height, width, y0=0.5, x0=0.5) -> np.ndarray:
    y, x = _grid(size)
    distance = np.hypot((y - y0) / height, (x - x0) / width)
    return np.clip((1 - distance) * 0.4 * size + 0.5, 0, 1)


def _skin(cases, size, rng):
    n = len(cases.labels)
    base = np.array([205, 160, 140], np.float32)
    light = 20 * _column(cases.tone) + 12 * _clouds(n, size, 4, rng)
    picture = base + light[..., None] * np.array([1, 1.1, 1.1], np.float32)
    hair = _strokes(n, size, 2, 1.0, rng)
    return picture - 45 * hair[..., None]


def _chest(cases, size, rng):
    n = len(cases.labels)
    height = _column(rng.uniform(0.42, 0.48, n))
    width = _column(rng.uniform(0.44, 0.5, n))
    body = _ellipse(size, height, width)
    lungs = _ellipse(size, height * 0.8, width * 0.8)
    picture = 15 + 105 * body - 65 * lungs + 8 * _column(cases.tone)
    picture = picture + 10 * _clouds(n, size, 5, rng)
    return (picture + 35 * _strokes(n, size, 2, 0.8, rng))[..., None]


def _smear(cases, size, rng):
    n = len(cases.labels)
    light = 10 * _column(cases.tone) + 8 * _clouds(n, size, 3, rng)
    picture = np.array([225, 215, 225], np.float32) + light[..., None]
    for _ in range(2):
        y0, x0 = _column(rng.uniform(0, 1, n)), _column(rng.uniform(0, 1, n))
        radius = _column(rng.uniform(0.3, 0.5, n))
        cell = _ellipse(size, radius, radius, y0, x0)[..., None]
        picture = picture - cell * np.array([25, 15, 5], np.float32)
    return picture


def _head(cases, size, rng):
    n = len(cases.labels)
    height = _column(rng.uniform(0.44, 0.5, n))
    width = _column(rng.uniform(0.4, 0.48, n))
    skull, brain = (
        _ellipse(size, height * scale, width * scale) for scale in (1.0, 0.88)
    )
    picture = 8 + 130 * skull - 60 * brain + 8 * _column(cases.tone)
    return (picture + 14 * brain * _clouds(n, size, 6, rng))[..., None]


_KINDS = {
    "dermoscopy": _Kind(
        "skin_lesion",
        ("smooth", "irregular", "ring", "spotted"),
        ("disc", "irregular", "ring", "spotted"),
        (-75.0, -85.0, -70.0),
        _skin,
    ),
    "ct": _Kind(
        "ct_nodule",
        ("solid", "spiculated", "cavitary"),
        ("disc", "irregular", "ring"),
        (85.0,),
        _chest,
    ),
    "pap_smear": _Kind(
        "cervical_cell",
        ("round", "lobed", "clumped"),
        ("disc", "irregular", "spotted"),
        (-95.0, -90.0, -55.0),
        _smear,
    ),
    "mri": _Kind(
        "brain_tumor",
        ("solid", "ring_enhancing", "patchy"),
        ("disc", "ring", "spotted"),
        (85.0,),
        _head,
    ),
}
