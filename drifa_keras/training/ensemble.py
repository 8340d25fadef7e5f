"""Training of an ensemble: several members on one split."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras

from drifa_keras.configs import Config
from drifa_keras.runs import STATE, Run, read_sources, require_same, unfinished_run
from drifa_keras.training.train import (
    begin_run,
    build_model,
    devices_of,
    fit_run,
    prepare,
)
from drifa_keras.uncertainty import Ensemble
from drifa_keras.uncertainty.ensemble import member_name, write_manifest


def train_ensemble(
    config: Config,
    folder: str | Path,
    members: int = 5,
    verbose: int | str = "auto",
) -> Run:
    """Trains the network of a configuration several times over.

    Each member is a run of its own in `member_0`, `member_1` and so on, with a seed of
    its own for weights, order of the data and augmentation; the split is the same. The
    folder itself is a run whose `model.keras` is the `Ensemble`, so that every command
    reads it as it reads a single run. What was interrupted goes on, as in `train`.

    Args:
        config: The configuration. Member i has the seed `members * config.seed + i`, so
            that ensembles of consecutive seeds share none.
        folder: The run folder to make.
        members: Number of members, 5 in the paper.
        verbose: As in `keras.Model.fit`.

    Returns:
        The `Run` of the ensemble.

    Raises:
        ValueError: As `train`, or if `members` is below 1.
    """
    if not isinstance(members, int) or members < 1:
        raise ValueError(
            f"`members` must be an integer of at least 1. Received: {members!r}."
        )
    # What may be wrong is tried before the long work, and the folder is made last.
    folder = Path(folder)
    run = unfinished_run(config, folder)
    pairing = read_sources(config)
    prepared = None
    for number in range(members):
        of_member = config.model_copy(update={"seed": members * config.seed + number})
        member = folder / member_name(number)
        if (member / "config.yaml").is_file() and not (member / STATE).is_dir():
            require_same(Run.open(member), of_member)
            continue
        keras.utils.set_random_seed(of_member.seed)
        with devices_of(of_member) as devices:
            model = build_model(of_member, pairing)
            if prepared is None:
                prepared = prepare(config, pairing, run, verbose)
                pairing = prepared.pairing
                run = begin_run(config, folder, prepared)
            if verbose != 0:
                print(f"Member {number + 1} of {members}, seed {of_member.seed}")
            fit_run(of_member, member, model, prepared, verbose, devices)
    write_manifest(folder, members)
    Ensemble.load(folder, name="ensemble").save(run.model_path)
    shutil.rmtree(folder / STATE)
    return run
