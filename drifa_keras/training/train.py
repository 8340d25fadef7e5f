"""A whole training run: from a configuration to a run folder."""

from __future__ import annotations

import contextlib
import inspect
from dataclasses import dataclass
from pathlib import Path

import keras

from drifa_keras.configs import Config
from drifa_keras.data import Augment, Pairing, batches, class_weights, steps_per_epoch
from drifa_keras.models import preset_class
from drifa_keras.runs import (
    STATE,
    Run,
    Splits,
    load_images,
    read_sources,
    read_splits,
    remove_parts,
    split_sources,
    unfinished_run,
)
from drifa_keras.training.distribution import (
    check_batch_size,
    distributed,
    synchronize,
)
from drifa_keras.training.recipe import compile_model, fit, rematerialized
from drifa_keras.training.recovery import epochs_done


@dataclass(frozen=True)
class Prepared:
    """The data of a training.

    Attributes:
        pairing: The sources, with their images loaded.
        splits: How they are split.
    """

    pairing: Pairing
    splits: Splits


def train(
    config: Config,
    folder: str | Path,
    verbose: int | str = "auto",
    prepared: Prepared | None = None,
) -> Run:
    """Trains the network of a configuration.

    A training that was interrupted goes on, and ends with the history and the weights
    that it would have had; at most one epoch is done twice.

    Args:
        config: The configuration, from `drifa_keras.configs.load_config`.
        folder: The run folder to make: `config.yaml`, `splits.json`, `model.keras`
            (the best epoch) and `history.csv`.
        verbose: As in `keras.Model.fit`.
        prepared: What `prepare` returned for the data of this configuration, to train
            several networks without reading it again.

    Returns:
        The `Run`.

    Raises:
        ValueError: If the folder holds a run that is done or one of another
            configuration, the data is not as its reader expects, a group straddles the
            splits, or the loss diverges.
    """
    # What may be wrong is tried before the long work, and the folder is made last.
    run = unfinished_run(config, folder)
    keras.utils.set_random_seed(config.seed)
    pairing = read_sources(config) if prepared is None else prepared.pairing
    with devices_of(config) as devices:
        model = build_model(config, pairing)
        if prepared is None:
            prepared = prepare(config, pairing, run, verbose)
        return fit_run(config, folder, model, prepared, verbose, devices)


def prepare(
    config: Config,
    pairing: Pairing | None = None,
    run: Run | None = None,
    verbose: int | str = "auto",
) -> Prepared:
    """Splits the sources of a configuration, and loads their images.

    Args:
        config: The configuration.
        pairing: Its sources, where they were read already.
        run: A run that split them already.
        verbose: 0 is silent.

    Raises:
        ValueError: As `train`.
    """
    pairing = read_sources(config) if pairing is None else pairing
    progress = verbose != 0
    if run is None:
        splits = split_sources(pairing, config, progress=progress)
    else:
        splits = read_splits(run, pairing)
    return Prepared(load_images(pairing, config, progress=progress), splits)


def begin_run(config: Config, folder: str | Path, prepared: Prepared) -> Run:
    """Makes the folder of a run, or opens that of one that was interrupted."""
    run = unfinished_run(config, folder)
    if run is None:
        # From here on the folder is known as that of an unfinished run.
        (Path(folder) / STATE).mkdir(parents=True, exist_ok=True)
        splits, names = prepared.splits, prepared.pairing.class_names
        run = Run.create(config, names, folder, splits.leakage)
        splits.write(run, prepared.pairing)
    else:
        remove_parts(run.folder)
    return run


@contextlib.contextmanager
def devices_of(config: Config):
    """Where a configuration is trained: a context of the number of devices.

    Raises:
        ValueError: As `distributed`, or if a batch cannot be shared equally.
    """
    if not config.training.distribute:
        yield 1
        return
    if config.training.adversarial is not None:
        raise ValueError(
            "Adversarial training runs on a single device. Leave out "
            "training.distribute, or training.adversarial."
        )
    with distributed() as devices:
        check_batch_size(config.training.batch_size, devices)
        yield devices


def fit_run(config: Config, folder, model, prepared: Prepared, verbose, devices=1):
    """Makes the run folder of a model, and trains the model.

    Args:
        config: The configuration.
        folder: The run folder to make, or to go on with.
        model: What `build_model` made.
        prepared: The data.
        verbose: As in `keras.Model.fit`.
        devices: Number of devices that share a batch.

    Returns:
        The `Run`.
    """
    if devices > 1:
        synchronize(model)
    run = begin_run(config, folder, prepared)
    train_pairs = prepared.splits.take(prepared.pairing, "train")
    val_pairs = prepared.splits.take(prepared.pairing, "val")
    first_epoch = epochs_done(folder)
    if first_epoch and verbose != 0:
        print(f"Going on after {first_epoch} of {config.training.epochs} epochs.")

    settings = config.training
    steps = steps_per_epoch(train_pairs, settings.batch_size, settings.pairs_per_epoch)
    compile_model(
        model,
        learning_rate=settings.learning_rate,
        loss_weights=settings.loss_weights,
        schedule=settings.schedule,
        steps=steps * settings.epochs,
        steps_per_epoch=steps,
        jit_compile=settings.jit_compile,
    )
    fit(
        model,
        batches(
            train_pairs,
            image_size=config.data.size,
            batch_size=settings.batch_size,
            seed=config.seed,
            augment=Augment(**config.data.augment.model_dump()),
            epochs=settings.epochs,
            first_epoch=first_epoch,
            pairs_per_epoch=settings.pairs_per_epoch,
            class_weights=_weights(train_pairs) if settings.class_weights else None,
        ),
        batches(
            val_pairs,
            image_size=config.data.size,
            batch_size=even_batch(val_pairs, config.evaluation.batch_size, devices),
            training=False,
            pad_remainder=True,
        ),
        epochs=settings.epochs,
        steps_per_epoch=steps,
        schedule=settings.schedule,
        monitor=settings.monitor,
        folder=run.folder,
        adversarial=None
        if settings.adversarial is None
        else {**settings.adversarial.model_dump(), "seed": config.seed},
        verbose=verbose,
    )
    return run


def even_batch(pairing, batch_size, devices):
    """The least size with which there are as few batches, equal on all devices."""
    steps = steps_per_epoch(pairing, batch_size, drop_remainder=False)
    return -(-len(pairing) // (steps * devices)) * devices


def build_model(config: Config, pairing: Pairing):
    """Builds the network of a configuration for the sources of `pairing`.

    A network that takes `task_modality` gets the modality of each task's source, for
    the tasks that the configuration does not name.

    Raises:
        ValueError: If such a source has several modalities, or the configuration does
            not fit.
    """
    cls = preset_class(config.model.preset)
    arguments = dict(config.model.arguments)
    if config.training.dtype is not None:
        arguments["dtype"] = config.training.dtype
    if "task_modality" in inspect.signature(cls).parameters:
        given = arguments.get("task_modality") or {}
        arguments["task_modality"] = {**_task_modality(pairing, given), **given}
    again = config.training.rematerialize
    with rematerialized() if again else contextlib.nullcontext():
        return cls.from_preset(
            config.model.preset,
            pairing.shapes(config.data.size),
            pairing.tasks,
            **arguments,
        )


def _task_modality(pairing, given):
    filled = {}
    for task in pairing.tasks:
        names = list(pairing.sources[pairing.source_of_task(task)].modalities)
        if task not in given and len(names) > 1:
            raise ValueError(
                f"The network reads task {task!r} from one of {names}. Name it in "
                f"`model.arguments.task_modality`, as in {{{task}: {names[0]}}}."
            )
        filled[task] = names[0]
    return filled


def _weights(pairing):
    return {
        task: class_weights(source.targets[task], source.class_names[task])
        for source in pairing.sources
        for task in source.targets
        if task not in source.maps
    }
