"""Source: the one record that readers produce and everything else consumes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from drifa_keras.data._checks import (
    channels_of,
    check_name,
    check_size,
    listing,
    track,
)
from drifa_keras.data.images import read_image, resize_array, resize_nearest

_OFFICIAL = ("train", "val", "test")
_MOST_INT8 = 127  # classes


@dataclass(frozen=True, eq=False)
class Source:
    """Images, labels and groups of one data set.

    Row `i` of every field belongs to one case. With several modalities the rows
    are aligned: they show the same case.

    A task is of one of two kinds. Its targets are one label a case, or label maps: a
    label for each pixel of the case's images, for segmentation.

    Args:
        name: what the source is called in messages and files.
        modalities: modality name to its images: either paths (strings; None where
            the image is absent) or a uint8 array (n, height, width, channels) with
            channels 1 or 3 and values 0..255, in which an all-zero image is an
            absent one.
        targets: task name to integer labels (n,), or to label maps (n, height, width)
            of the size of the images, which must be arrays; -1 where the label is
            unknown. Maps are kept as int8, as int16 beyond 127 classes.
        class_names: task name to the names of its classes, label 0 first. Class 0 of
            maps is the background.
        groups: (n,) what must not straddle a split: lesion, slide, patient. Each
            image is its own group when left out.
        ids: (n,) unique strings. Paths relative to their common folder when left
            out, or `"name/000123"` for arrays.
        masks: modality name to ground-truth lesion masks, bool (n, height, width).
        official_split: (n,) of "train", "val" and "test" where the publisher
            prescribes a split, else None.
        regions: task with maps to the regions that are scored: name to the classes
            that make it up. Left out, each class but 0 is a region of its own.
    """

    name: str
    modalities: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    class_names: dict[str, tuple[str, ...]]
    groups: np.ndarray | None = None
    ids: np.ndarray | None = None
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    official_split: np.ndarray | None = None
    regions: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    def __post_init__(self):
        if not self.modalities or not self.targets:
            missing = "modality" if not self.modalities else "task"
            raise ValueError(
                f"Source {self.name!r} has no {missing}: expected at least one "
                "modality and one task."
            )
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731
        put("modalities", {k: self._images(k, v) for k, v in self.modalities.items()})
        n = len(next(iter(self.modalities.values())))
        put("class_names", self._classes())
        put("targets", {k: self._labels(k, v) for k, v in self.targets.items()})
        put("regions", self._regions())
        put("ids", self._default_ids(n) if self.ids is None else self._strings("ids"))
        groups = self.ids if self.groups is None else np.asarray(self.groups)
        put("groups", groups.astype(str) if groups.dtype == object else groups)
        put("masks", {k: self._mask(k, v) for k, v in self.masks.items()})
        if self.official_split is not None:
            put("official_split", self._strings("official_split"))
            odd = sorted(set(self.official_split.tolist()) - set(_OFFICIAL))
            if odd:
                raise ValueError(
                    f"official_split of source {self.name!r} holds {odd[0]!r}: "
                    f"expected only {', '.join(_OFFICIAL)}."
                )
        self._check_lengths(n)
        self._check_maps()
        values, counts = np.unique(self.ids, return_counts=True)
        if counts.size and counts.max() > 1:
            raise ValueError(
                f"Source {self.name!r} has the id {str(values[counts.argmax()])!r} "
                f"{counts.max()} times: ids must be unique."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        tasks = {task: len(names) for task, names in self.class_names.items()}
        return (
            f"Source({self.name!r}, {len(self)} cases in "
            f"{len(np.unique(self.groups))} groups, modalities="
            f"{sorted(self.modalities)}, classes={tasks})"
        )

    @property
    def channels(self) -> dict[str, int | None]:
        """Channels of each modality; None where it is still paths."""
        return {
            name: None if images.dtype == object else images.shape[-1]
            for name, images in self.modalities.items()
        }

    @property
    def maps(self) -> tuple[str, ...]:
        """The tasks whose targets are label maps."""
        return tuple(task for task, labels in self.targets.items() if labels.ndim == 3)

    def case_labels(self, task: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """One label a case, and the names of these labels.

        Those of the task; where it has maps, whether any pixel is of another class
        than the background ("absent", "present"). -1 where nothing is known.
        """
        labels = self.targets[task]
        if task not in self.maps:
            return labels, self.class_names[task]
        highest = labels.max(axis=(1, 2), initial=-1)
        return np.minimum(highest, 1).astype(np.int64), ("absent", "present")

    def take(self, indices: Sequence[int] | np.ndarray) -> Source:
        """The source made of the given rows, in the given order."""
        indices = np.asarray(indices)
        if indices.dtype == bool:
            if indices.shape != (len(self),):
                raise ValueError(
                    f"take got a boolean array of shape {indices.shape}: expected "
                    f"({len(self)},), one value a case."
                )
            indices = np.flatnonzero(indices)
        indices = indices.astype(np.int64).reshape(-1)
        if indices.size and not (
            -len(self) <= indices.min() and indices.max() < len(self)
        ):
            raise ValueError(
                f"take got the indices {indices.min()}..{indices.max()}: source "
                f"{self.name!r} has {len(self)} cases."
            )

        def pick(table):
            return {key: value[indices] for key, value in table.items()}

        return replace(
            self,
            modalities=pick(self.modalities),
            targets=pick(self.targets),
            groups=self.groups[indices],
            ids=self.ids[indices],
            masks=pick(self.masks),
            official_split=None
            if self.official_split is None
            else self.official_split[indices],
        )

    def load(
        self,
        image_size: tuple[int, int],
        channels: dict[str, int] | int = 3,
        progress: bool = True,
    ) -> Source:
        """Decode every image into memory.

        Args:
            image_size: (height, width) of the arrays made.
            channels: 3 (RGB) or 1 (grey), for all modalities or by name. Arrays
                that are already in memory keep their own channels.
            progress: whether to show a progress bar when it takes a while.

        Returns:
            The same source with uint8 arrays for modalities; absent images are
            all zeros. Masks and label maps are resized with it (nearest).
        """
        size = check_size(image_size)
        by_name = channels_of(channels, list(self.modalities))
        modalities = {
            name: self._load_one(name, images, size, by_name[name], progress)
            for name, images in self.modalities.items()
        }
        masks = {name: resize_nearest(mask, size) for name, mask in self.masks.items()}
        maps = {task: resize_nearest(self.targets[task], size) for task in self.maps}
        return replace(
            self,
            modalities=modalities,
            targets={**self.targets, **maps},
            masks=masks,
        )

    def _load_one(self, name, images, size, channels, progress) -> np.ndarray:
        if images.dtype != object:
            if images.shape[1:3] == size:
                return images
            channels = images.shape[-1]
        out = np.zeros((len(images), *size, channels), np.uint8)

        def fill(index):
            image = images[index]
            if isinstance(image, str):
                out[index] = read_image(image, size, channels)
            elif image is not None:
                out[index] = resize_array(image, size)

        with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
            results = pool.map(fill, range(len(images)))
            try:
                for _ in track(
                    results, len(images), f"Reading {self.name} {name}", progress
                ):
                    pass
            except BaseException:
                # Without this a bad file at the start is reported only after
                # every other image has been decoded.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return out

    def _images(self, name, images) -> np.ndarray:
        check_name("modality", name)
        if not (isinstance(images, np.ndarray) and images.dtype.kind not in "OU"):
            images = list(images)
            if images and isinstance(images[0], np.ndarray):
                raise ValueError(
                    f"Modality {name!r} is a list of arrays: expected one uint8 "
                    "array (n, height, width, channels); stack them."
                )
            paths = np.empty(len(images), object)
            paths[:] = [_path(name, image) for image in images]
            return paths
        if images.dtype != np.uint8:
            raise ValueError(
                f"Modality {name!r} is an array of {images.dtype}: expected uint8 "
                "with values 0..255; scale and cast it."
            )
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise ValueError(
                f"Modality {name!r} has the shape {images.shape}: expected (n, "
                "height, width, channels) with 1 or 3 channels; reshape it."
            )
        return images

    def _classes(self) -> dict[str, tuple[str, ...]]:
        if set(self.class_names) != set(self.targets):
            raise ValueError(
                f"Source {self.name!r} has class_names for "
                f"{sorted(self.class_names)} and targets for {sorted(self.targets)}: "
                "expected the same tasks in both."
            )
        table = {}
        for task, names in self.class_names.items():
            check_name("task", task)
            names = tuple(str(name) for name in names)
            if len(names) < 2 or len(set(names)) != len(names):
                raise ValueError(
                    f"Task {task!r} has the classes {names}: expected at least two, "
                    "all different."
                )
            table[task] = names
        return table

    def _labels(self, task, labels) -> np.ndarray:
        raw = np.asarray(labels)
        whole = raw.dtype.kind in "iu" or (
            raw.dtype.kind == "f" and bool(np.all(raw == np.floor(raw)))
        )
        if raw.ndim not in (1, 3) or (raw.size and not whole):
            raise ValueError(
                f"Labels of task {task!r} have shape {raw.shape} and dtype "
                f"{raw.dtype}: expected whole numbers of shape (n,), or (n, height, "
                "width) for label maps."
            )
        classes = len(self.class_names[task])
        if raw.size and not (raw.min() >= -1 and raw.max() < classes):
            row, *pixel = np.argwhere((raw < -1) | (raw >= classes))[0].tolist()
            label = raw[(row, *pixel)]
            place = f"{row}, pixel {tuple(pixel)}" if pixel else f"{row}"
            raise ValueError(
                f"Task {task!r} has the label {label:g} at row {place}: expected "
                f"0..{classes - 1} for its {classes} classes, or -1 for unknown."
            )
        if raw.ndim == 1:
            return raw.astype(np.int64)
        return raw.astype(np.int8 if classes <= _MOST_INT8 else np.int16, copy=False)

    def _regions(self) -> dict[str, dict[str, tuple[int, ...]]]:
        odd = sorted(set(self.regions) - set(self.maps))
        if odd:
            raise ValueError(
                f"regions of source {self.name!r} names {odd[0]!r}: expected tasks "
                f"with label maps, of which there are {sorted(self.maps) or 'none'}; "
                "leave it out."
            )
        return {
            task: {
                str(name): self._region(task, name, labels)
                for name, labels in self.regions.get(task, {}).items()
            }
            or {name: (k,) for k, name in enumerate(self.class_names[task]) if k}
            for task in self.maps
        }

    def _region(self, task, name, labels) -> tuple[int, ...]:
        labels, classes = np.asarray(labels), len(self.class_names[task])
        usable = labels.ndim == 1 and labels.size and labels.dtype.kind in "iu"
        if (
            not usable
            or labels.min() < 0
            or labels.max() >= classes
            or len(set(labels.tolist())) < labels.size
        ):
            raise ValueError(
                f"Region {str(name)!r} of task {task!r} is made of {labels.tolist()}: "
                f"expected one or more different labels of 0..{classes - 1}, e.g. (1,)."
            )
        return tuple(labels.tolist())

    def _mask(self, name, mask) -> np.ndarray:
        mask = np.asarray(mask)
        if name not in self.modalities or mask.ndim != 3:
            raise ValueError(
                f"masks[{name!r}] has shape {mask.shape}: expected the name of a "
                f"modality ({sorted(self.modalities)}) and (n, height, width)."
            )
        return mask.astype(bool)

    def _strings(self, key) -> np.ndarray:
        return np.asarray([str(value) for value in getattr(self, key)], dtype=str)

    def _default_ids(self, n) -> np.ndarray:
        for images in self.modalities.values():
            if images.dtype == object and n and all(p is not None for p in images):
                paths = [os.path.abspath(path) for path in images]
                if len(set(paths)) < n:
                    continue
                root = os.path.commonpath([os.path.dirname(path) for path in paths])
                relative = [os.path.relpath(path, root) for path in paths]
                return np.asarray([p.replace(os.sep, "/") for p in relative])
        return np.asarray([f"{self.name}/{i:06d}" for i in range(n)], dtype=str)

    def _check_lengths(self, n) -> None:
        lengths: list[tuple[str, int]] = [
            *((f"modality {k!r}", len(v)) for k, v in self.modalities.items()),
            *((f"task {k!r}", len(v)) for k, v in self.targets.items()),
            *((f"masks[{k!r}]", len(v)) for k, v in self.masks.items()),
            ("groups", len(self.groups)),
            ("ids", len(self.ids)),
        ]
        if self.official_split is not None:
            lengths.append(("official_split", len(self.official_split)))
        wrong = [f"{what} has {count}" for what, count in lengths if count != n]
        if wrong:
            raise ValueError(
                f"Source {self.name!r}: {lengths[0][0]} has {n} rows but "
                f"{listing(wrong)}; expected the same number everywhere."
            )

    def _check_maps(self) -> None:
        for task in self.maps:
            size = self.targets[task].shape[1:]
            for name, images in self.modalities.items():
                if images.dtype == object:
                    raise ValueError(
                        f"Task {task!r} of source {self.name!r} has label maps, but "
                        f"modality {name!r} is paths: expected an array of images of "
                        "the maps' size; decode them with read_image and stack them."
                    )
                if images.shape[1:3] != size:
                    raise ValueError(
                        f"The label maps of task {task!r} are {size} and the images of "
                        f"modality {name!r} {images.shape[1:3]} (height, width): "
                        "expected one size; resize one to the other."
                    )


def _path(modality, image) -> str | None:
    if image is None:
        return None
    if isinstance(image, (str, os.PathLike)) and os.fspath(image):
        return str(os.fspath(image))
    raise ValueError(
        f"Modality {modality!r} holds {image!r}: expected path strings, None for an "
        "absent image, or one uint8 array."
    )
