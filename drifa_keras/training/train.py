"""A whole training run: from a configuration to a run folder."""

from __future__ import annotations

from pathlib import Path

import keras

from drifa_keras.configs import Config
from drifa_keras.data import Augment, Pairing, batches, class_weights, steps_per_epoch
from drifa_keras.models import preset_class
from drifa_keras.runs import (
    Run,
    Splits,
    load_images,
    read_sources,
    require_free,
    split_sources,
)
from drifa_keras.training.recipe import compile_model, fit


def train(config: Config, folder: str | Path, verbose: int | str = "auto") -> Run:
    """Trains the network of a configuration.

    Args:
        config: The configuration, from `drifa_keras.configs.load_config`.
        folder: The run folder to make: `config.yaml`, `splits.json`, `model.keras`
            (the best epoch) and `history.csv`.
        verbose: As in `keras.Model.fit`.

    Returns:
        The `Run`.

    Raises:
        ValueError: If the folder exists, the data is not as its reader expects, a
            group straddles the splits, or the loss diverges.
    """
    # What may be wrong is tried before the long work, and the folder is made last.
    require_free(folder)
    keras.utils.set_random_seed(config.seed)
    pairing = read_sources(config)
    model = build_model(config, pairing)
    splits = split_sources(pairing, config, progress=verbose != 0)
    pairing = load_images(pairing, config, progress=verbose != 0)
    return fit_run(config, folder, model, pairing, splits, verbose)


def fit_run(config: Config, folder, model, pairing: Pairing, splits: Splits, verbose):
    """Makes the run folder of a model, and trains the model.

    Args:
        config: The configuration.
        folder: The run folder to make.
        model: What `build_model` made.
        pairing: The sources, with their images loaded.
        splits: How they are split.
        verbose: As in `keras.Model.fit`.

    Returns:
        The `Run`.
    """
    run = Run.create(config, pairing.class_names, folder, splits.leakage)
    splits.write(run, pairing)
    train_pairs = splits.take(pairing, "train")
    val_pairs = splits.take(pairing, "val")

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
            pairs_per_epoch=settings.pairs_per_epoch,
            class_weights=_weights(train_pairs) if settings.class_weights else None,
        ),
        batches(
            val_pairs,
            image_size=config.data.size,
            batch_size=config.evaluation.batch_size,
            training=False,
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


def build_model(config: Config, pairing: Pairing):
    """Builds the network of a configuration for the sources of `pairing`."""
    arguments = dict(config.model.arguments)
    if config.training.dtype is not None:
        arguments["dtype"] = config.training.dtype
    return preset_class(config.model.preset).from_preset(
        config.model.preset,
        pairing.shapes(config.data.size),
        pairing.tasks,
        **arguments,
    )


def _weights(pairing):
    return {
        task: class_weights(source.targets[task], source.class_names[task])
        for source in pairing.sources
        for task in source.targets
    }
