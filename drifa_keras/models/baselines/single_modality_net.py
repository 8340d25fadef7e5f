"""One plain network a task: the trivial baseline."""

import keras

from drifa_keras.models.baselines.comparator import Comparator, encode
from drifa_keras.models.multimodal_model import check_modalities, check_tasks
from drifa_keras.models.staged_model import blocks_with_dropout, join, plain


@keras.saving.register_keras_serializable(package="drifa_keras")
class SingleModalityNet(Comparator):
    """A plain ResNet-18 for each task, on the one modality that shows it.

    Nothing is shared and nothing fused: what a multimodal network gains has to be
    measured against this. Each network is a `DRIFANet` without attention on one
    modality, with dropout in the same places. Where the image of a task is absent,
    its features are zeros, and all that it says is how frequent the classes are.

    Args:
        modalities: Dict of modality name to image shape `(height, width,
            channels)`, with 1 or 3 channels.
        tasks: Dict of task name to number of classes.
        task_modality: Dict of task name to the modality that it is read from. It may
            leave out tasks that have the name of a modality, and all of them where
            there is one modality. `drifa train` fills it in from the sources, where a
            source has one modality.
        dropout: Rate of every dropout layer; 0 leaves them out.
        dropout_after: Where dropout stands beside the end: a stage `s` or a pair
            `(s, b)` for a block of it, as in `DRIFANet`.
        **kwargs: `backbone` (`"resnet18"` or `"inception_v3"`), `filters`, `stem` and
            `norm_momentum` as in `DRIFANet`;
            `modality_dropout`, `rescaling`, `dtype`, `name` and `trainable` as in
            `MultimodalModel`.

    Call arguments:
        inputs: Dict of images `(batch, height, width, channels)`, pixels 0..255. An
            image of zeros counts as absent.

    Returns:
        Dict of float32 probabilities `(batch, classes)` keyed by task.
    """

    def __init__(
        self,
        modalities,
        tasks,
        task_modality=None,
        dropout=0.25,
        *,
        dropout_after=None,
        **kwargs,
    ):
        task_modality = _complete(task_modality, modalities, tasks)

        def network(branches, streams, presence, dtype):
            nonlocal dropout_after
            dropout_after, blocks = blocks_with_dropout(dropout_after, branches.places)
            names, features = list(streams), {}
            for task, modality in task_modality.items():
                x = encode(branches, task, streams[modality], dropout, blocks, dtype)
                there = None
                if presence is not None:
                    column = names.index(modality)
                    there = presence[:, column : column + 1]
                features[task] = join({task: x[-1]}, there, dropout, dtype, task)
            return features

        super().__init__(
            modalities, tasks, network, branch_modality=task_modality, **kwargs
        )
        self.task_modality = task_modality
        self.dropout = dropout
        self.dropout_after = dropout_after

    def get_config(self):
        return {
            **super().get_config(),
            "task_modality": dict(self.task_modality),
            "dropout": self.dropout,
            "dropout_after": plain(self.dropout_after),
        }


def _complete(given, modalities, tasks):
    """Returns task -> modality for every task, or raises a `ValueError`."""
    modalities, tasks = list(check_modalities(modalities)), list(check_tasks(tasks))
    given = dict(given or {})
    unknown = sorted(set(given) - set(tasks)) or sorted(
        set(given.values()) - set(modalities)
    )
    if unknown:
        raise ValueError(
            f"`task_modality` leads from the tasks {tasks} to the modalities "
            f"{modalities}. Received: {given}, with the unknown {unknown[0]!r}."
        )
    for task in tasks:
        only = modalities[0] if len(modalities) == 1 else None
        modality = given.setdefault(task, task if task in modalities else only)
        if modality is None:
            raise ValueError(
                f"Task {task!r} may be read from any of the modalities {modalities}. "
                f"Pass `task_modality={{{task!r}: {modalities[0]!r}}}` or the like."
            )
    return {task: given[task] for task in tasks}
