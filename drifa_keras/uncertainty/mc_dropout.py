"""Monte-Carlo dropout: DRIFA-Net, Sec. 3.3 and Eq. 10."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
import weakref

import keras
import numpy as np
from keras import ops, tree

from drifa_keras.layers import freeze_randomness
from drifa_keras.models import MultimodalModel
from drifa_keras.models.prediction import complete
from drifa_keras.uncertainty._checks import check_count
from drifa_keras.uncertainty._split import flat_inputs, rates, require_graph, split
from drifa_keras.uncertainty.measures import _entropy

# Seconds after which `verbose="auto"` shows a progress bar.
_LONG = 2.0
# Softmax in bfloat16 sums to one within this.
_SUM_TOLERANCE = 0.01

# The two parts of a network, for as long as the model lives.
_SPLITS = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True, eq=False)
class Uncertainty:
    """What several passes say about one output of a network.

    Where the output is no distribution over its last axis (logits, a regression), all
    but `mean`, `variance` and `passes` are `None`.

    Attributes:
        mean: Mean over the passes, `(n, ..., classes)`.
        predictive_entropy: Entropy of the mean, `(n, ...)`: total uncertainty, in nats.
        expected_entropy: Mean entropy of the passes, `(n, ...)`: what they agree
            cannot be known.
        mutual_information: The difference of the two, `(n, ...)`: what the passes
            disagree about.
        variance: Variance over the passes, mean over the classes, `(n, ...)`.
        variation_ratio: Share of the passes that do not vote for the class with the
            most votes, `(n, ...)`.
        passes: Every pass, `(passes, n, ..., classes)`, where they were asked for.
    """

    mean: np.ndarray
    predictive_entropy: np.ndarray | None
    expected_entropy: np.ndarray | None
    mutual_information: np.ndarray | None
    variance: np.ndarray
    variation_ratio: np.ndarray | None
    passes: np.ndarray | None


def predict(
    model,
    x,
    passes: int = 20,
    seed: int = 0,
    max_bytes: int = 2**30,
    batch_size: int = 32,
    return_passes: bool = False,
    verbose: int | str = "auto",
) -> dict[str, Uncertainty]:
    """Predicts with dropout on, several times over.

    Only dropout is random: BatchNormalization keeps its running statistics, and no
    weight, statistic or seed of the model moves. What lies before the first dropout is
    computed once, and a pass serves all outputs. Dropout means `MCDropout`,
    `keras.layers.Dropout` and what derives from it, `AlphaDropout` and
    `GaussianDropout`, with a rate above 0; `ModalityDropout` and noise stay off. What
    is random at inference as well, as in `RobustMAILNet`, is held to one draw, which
    `seed` picks.

    The masks of a sample follow from `seed`, its position in `x` and the pass alone:
    they are the same for every `batch_size`, `max_bytes` and backend, and the first of
    many passes are those of few.

    Reference: Gal and Ghahramani, *Dropout as a Bayesian Approximation*, ICML 2016;
    Dhar et al., *Multimodal Fusion Learning with Dual Attention for Medical Imaging*,
    WACV 2025, Eq. 10.

    Args:
        model: A Functional or Sequential model with any number of inputs and outputs,
            which may have such models inside. An `Ensemble` gives the passes of every
            member, `members * passes` in all, one member after another.
        x: What `model.predict` takes: an array, a list or dict of arrays, a
            `keras.utils.PyDataset`, a `tf.data.Dataset` or another iterable of batches.
            For a `MultimodalModel`, modalities may be missing as in
            `drifa_keras.predict`.
        passes: Number of passes.
        seed: Seed of the masks.
        max_bytes: Memory that a batch may take beside the weights and the results. It
            is estimated, from above, by the sizes of the tensors; a single row always
            runs.
        batch_size: Number of rows at a time; a row is one pass of one sample. Where
            there are few samples, their passes fill the batch.
        return_passes: Whether to keep every pass.
        verbose: 0 is silent, 1 shows a progress bar, `"auto"` shows one on a terminal
            or in a notebook where it takes long.

    Returns:
        Dict of output name to `Uncertainty`. Outputs are named by their keys where the
        model returns a dict, and by their layers where it does not.

    Raises:
        ValueError: If the model is not Functional, an output depends on no dropout,
            dropout hides in a layer that is no dropout itself, a number is not
            positive, or `x` does not fit the model.
    """
    check_count(passes, "passes")
    check_count(max_bytes, "max_bytes")
    check_count(batch_size, "batch_size")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(
            f"`seed` must be an integer of at least 0. Received: {seed!r}."
        )
    members = getattr(model, "members", [model])
    names = output_names(members[0])
    draws = len(members) * passes
    bar = _ProgressBar(_length(x), draws, verbose)
    results = []
    seen = 0
    with freeze_randomness(model, seed):
        for parts, samples, width in _steps(members, names, x, max_bytes, batch_size):
            count = len(samples[0])
            tallies = [_Tally(count, return_passes) for _ in names]
            for member, part in enumerate(parts):
                keys = _keys(part, (seed, member), seen, count, passes)
                rows = _fitting(part.suffix_bytes, max_bytes, batch_size)
                for of, outputs in _draw(part, samples, keys, width, rows):
                    for tally, output in zip(tallies, outputs, strict=True):
                        tally.add(of, output)
                    bar.add(len(of))
            results.append([tally.result(draws) for tally in tallies])
            seen += count
    bar.close()
    if not results:
        raise ValueError("There is no sample to predict. Received: empty data.")
    return {
        name: _joined(parts)
        for name, parts in zip(names, zip(*results, strict=True), strict=True)
    }


def _steps(members, names, x, max_bytes, batch_size):
    """Yields samples, the `Split` of every member for them, and their usual number."""
    width = 0
    for arrays in _batches(members[0], x):
        parts = [_split(member, names, arrays) for member in members]
        most = max(part.prefix_bytes for part in parts)
        count = len(arrays[0])
        step = _equal(count, _fitting(most, max_bytes, batch_size))
        width = max(width, step)
        for start in range(0, count, step):
            stop = start + step
            yield parts, [ops.convert_to_numpy(a[start:stop]) for a in arrays], width


def _fitting(bytes_each, max_bytes, batch_size):
    """How many rows of a batch fit into the memory."""
    return max(1, min(batch_size, max_bytes // bytes_each))


def _equal(count, largest):
    """Size of the batches, all but equal, into which `count` rows go."""
    return math.ceil(count / math.ceil(count / largest)) if count else 1


def _draw(part, samples, keys, width, rows):
    """Yields the samples of some rows, and the outputs for these rows.

    Rows go one pass after another. There are `rows` of them at most, and always as
    many, so that one compiled program serves all: what is left over is filled up with
    repetitions and cut off.

    Args:
        part: The `Split`.
        samples: Inputs of the network, NumPy arrays.
        keys: `(samples, passes, dropouts)`.
        width: Number of samples that the first part is run on.
        rows: Largest number of rows of a batch.
    """
    count, passes, _ = keys.shape
    filled = np.minimum(np.arange(width), count - 1)
    frontier = part.prefix.predict_on_batch([array[filled] for array in samples])
    frontier = [
        ops.convert_to_tensor(array, dtype=tensor.dtype)
        for array, tensor in zip(
            tree.flatten(frontier), part.prefix.outputs, strict=True
        )
    ]
    rows = _equal(width * passes, rows)
    for start in range(0, count * passes, rows):
        row = np.arange(start, min(start + rows, count * passes))
        number, sample = np.divmod(np.resize(row, rows), count)
        read = [ops.take(tensor, sample, axis=0) for tensor in frontier]
        read.append(ops.convert_to_tensor(keys[sample, number]))
        outputs = part.suffix.predict_on_batch(read)
        yield (
            sample[: len(row)],
            [np.asarray(output)[: len(row)] for output in tree.flatten(outputs)],
        )


def _keys(part, seed, first, count, passes):
    """Draws the keys of the masks, int32 `(count, passes, dropouts)`.

    Args:
        part: The `Split`.
        seed: Tuple of integers.
        first: Position of the first sample in all data.
        count: Number of samples.
        passes: Number of passes.
    """

    def integers(*entropy):
        generator = np.random.default_rng((*seed, *entropy))
        size = (passes, len(part.shared))
        return generator.integers(-(2**31), 2**31, size, dtype="int32")

    keys = np.stack([integers(first + sample) for sample in range(count)])
    return np.where(part.shared, integers(), keys)


class _Tally:
    """Sums over the passes of one output, from which every measure follows.

    Args:
        count: Number of samples.
        keep: Whether to keep every pass.
    """

    def __init__(self, count, keep):
        self._count = count
        self._passes = [[] for _ in range(count)] if keep else None
        self._sum = None

    def add(self, of, values):
        """Adds rows: `values[i]` is a pass of sample `of[i]`."""
        if self._sum is None:
            self._open(values)
        if self._passes is not None:
            for sample, value in zip(of, values, strict=True):
                self._passes[sample].append(value)
        values = values.astype("float64")
        np.add.at(self._sum, of, values)
        np.add.at(self._squares, of, np.square(values))
        if self._votes is not None:
            np.add.at(self._entropy, of, _entropy(values))
            voted = values.argmax(axis=-1)[..., None] == np.arange(values.shape[-1])
            np.add.at(self._votes, of, voted)

    def _open(self, values):
        shape = (self._count, *values.shape[1:])
        self._dtype = values.dtype
        self._sum = np.zeros(shape)
        # Of float32 values, whose rounding exceeds what cancels in the variance.
        self._squares = np.zeros(shape)
        self._votes = self._entropy = None
        if _is_distribution(values):
            self._votes = np.zeros(shape, "int32")
            self._entropy = np.zeros(shape[:-1])

    def result(self, passes):
        """The `Uncertainty` of the samples, after `passes` of each."""
        mean = self._sum / passes
        variance = np.maximum(self._squares / passes - np.square(mean), 0)
        total = expected = information = variation_ratio = None
        if self._votes is not None:
            total, expected = _entropy(mean), self._entropy / passes
            information = np.maximum(total - expected, 0)
            variation_ratio = 1 - self._votes.max(axis=-1) / passes
        kept = self._passes
        return Uncertainty(
            mean=mean.astype(self._dtype),
            predictive_entropy=total,
            expected_entropy=expected,
            mutual_information=information,
            variance=variance.mean(axis=-1) if variance.ndim > 1 else variance,
            variation_ratio=variation_ratio,
            passes=None if kept is None else np.stack(kept).swapaxes(0, 1),
        )


def _is_distribution(values):
    if values.ndim < 2 or values.shape[-1] < 2:
        return False
    sums = values.sum(axis=-1, dtype="float64")
    return bool(values.min() >= 0 and np.abs(sums - 1).max() <= _SUM_TOLERANCE)


def _joined(parts):
    """Joins the `Uncertainty` of several batches of samples."""

    def join(name):
        arrays = [getattr(part, name) for part in parts]
        if any(array is None for array in arrays):
            return None
        return np.concatenate(arrays, axis=1 if name == "passes" else 0)

    return Uncertainty(
        **{field.name: join(field.name) for field in dataclasses.fields(Uncertainty)}
    )


def _split(model, names, arrays):
    """The two parts of a model for inputs like these, kept for the next call."""
    shapes = tuple(
        _shape(tensor, array)
        for tensor, array in zip(model.inputs, arrays, strict=True)
    )
    known = _SPLITS.setdefault(model, {})
    # What may have changed since: a rate, the layers of a Sequential model, LoRA.
    key = (shapes, rates(model), *map(id, [*model.outputs, *model.weights]))
    if key not in known:
        part = split(model, shapes)
        if not any(part.random):
            raise ValueError(
                f"{model.name} has no active dropout, so that its passes would not "
                "differ. Build it with a dropout rate above 0, and train it like that."
            )
        if not all(part.random):
            raise ValueError(
                f"Output {names[part.random.index(False)]!r} of {model.name} depends "
                "on no active dropout, so that its passes would not differ. Pass a "
                "model of the other outputs: `keras.Model(model.inputs, [...])`."
            )
        known[key] = part
    return known[key]


def _shape(tensor, array):
    """Sizes of a sample of an input, where the model leaves them open the array's."""
    sizes = tensor.shape[1:]
    if len(sizes) != array.ndim - 1:  # Keras adds or drops a last axis of 1
        return tuple(sizes)
    given = tuple(map(int, array.shape[1:]))
    if any(size not in (None, other) for size, other in zip(sizes, given, strict=True)):
        raise ValueError(
            f"Input {tensor.name!r} takes samples of shape {tuple(sizes)}. Received: "
            f"shape {tuple(array.shape)}, samples first."
        )
    return given


def output_names(model) -> list[str]:
    """Names of the outputs of a model: keys where it returns a dict, else layers."""
    graph = require_graph(model)
    if isinstance(model, keras.Function) and isinstance(model.output, dict):
        paths = [path for path, _ in tree.flatten_with_path(model.output)]
        return ["/".join(map(str, path)) for path in paths]
    names = graph.output_names
    return [
        f"{name}_{index}" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    ]


def _is_whole(x):
    """Whether all data is there, rather than coming in batches."""
    if isinstance(x, keras.utils.PyDataset):
        return False
    return isinstance(x, (dict, list, tuple)) or hasattr(x, "shape")


def _length(x):
    """Number of samples, `None` where it is not known in advance."""
    leaves = tree.flatten(x) if _is_whole(x) else []
    return next((len(leaf) for leaf in leaves if hasattr(leaf, "shape")), None)


def _batches(model, x):
    """Yields the inputs of a model in its order, one batch of data after another."""
    batches = x
    if _is_whole(x):
        batches = [(x,)]
    elif isinstance(x, keras.utils.PyDataset):
        batches = (x[index] for index in range(x.num_batches))
    for batch in batches:
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if isinstance(model, MultimodalModel):
            inputs = complete(model, inputs)
            model._check_images(inputs)
        arrays = [
            array if hasattr(array, "shape") else np.asarray(array)
            for array in flat_inputs(model, inputs)
        ]
        if len(arrays) != len(model.inputs):
            raise ValueError(
                f"{model.name} has {len(model.inputs)} inputs. Received: {len(arrays)} "
                "arrays. Pass a dict keyed by the names of the inputs, "
                f"{[tensor.name for tensor in model.inputs]}."
            )
        counts = {len(array) for array in arrays}
        if len(counts) > 1:
            raise ValueError(
                "All inputs need as many samples. Received: "
                f"{[tuple(array.shape) for array in arrays]}."
            )
        yield arrays


class _ProgressBar:
    """A bar over the passes of all samples.

    Args:
        count: Number of samples, `None` where unknown.
        passes: Number of passes of each.
        verbose: As for `predict`.
    """

    def __init__(self, count, passes, verbose):
        target = None if count is None else count * passes
        seen = sys.stdout.isatty() or "ipykernel" in sys.modules
        self._bar = keras.utils.Progbar(target, unit_name="pass")
        self._done = 0
        self._start = math.inf
        if verbose == 1 or (verbose == "auto" and seen):
            self._start = time.monotonic() + (0 if verbose == 1 else _LONG)

    def add(self, passes):
        self._done += passes
        if time.monotonic() > self._start:
            self._bar.update(self._done, finalize=False)

    def close(self):
        if time.monotonic() > self._start:
            self._bar.update(self._done, finalize=True)
