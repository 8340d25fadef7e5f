"""How much a random split leaks: one small network under three ways of splitting.

    python benchmarks/leakage_score.py sipakmed --root ./data

The network (drifa_tiny without attention), its size, recipe and seeds are the same;
what differs is which images may not be torn apart: none (`random`), those of the
reader's groups (`groups`: slide, lesion), or these with copies and near duplicates
(`groups and near duplicates`, the default of training). Each way is split with several
seeds, 80/10/10; the best of the validation epochs is scored on the test images.
Differences are taken over the same seeds.
"""

import argparse
import dataclasses
import json
import tempfile

import keras
import numpy as np

from drifa_keras.data import (
    DATASETS,
    Augment,
    batches,
    merge_groups,
    pair,
    split,
    steps_per_epoch,
)
from drifa_keras.evaluation import classification_metrics, predict_test
from drifa_keras.models import DRIFANet
from drifa_keras.training import compile_model, fit

SHOWN = ("accuracy", "balanced_accuracy", "f1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("--root", default=".", help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()
    source = DATASETS[arguments.dataset].read(arguments.root)
    merged = merge_groups(source)
    size = (arguments.image_size,) * 2
    loaded = source.load(size)
    ways = {
        "random": source.ids,
        "groups": source.groups,
        "groups and near duplicates": merged.groups,
    }
    results = {name: [] for name in ways}
    for seed in range(arguments.seeds):
        for name, groups in ways.items():
            score = trial(
                dataclasses.replace(loaded, groups=groups), size, seed, arguments
            )
            results[name].append(score)
            print(f"seed {seed}, {name}: {score['accuracy']:.3f}", flush=True)
    report(arguments, {name: len(np.unique(g)) for name, g in ways.items()}, results)


def trial(source, size, seed, arguments):
    keras.utils.set_random_seed(seed)
    pairing = pair([source])
    parts = {
        name: pairing.take([rows])
        for name, rows in split(source, seed=seed).parts().items()
    }
    arrangement = {"mfa": False, "mifa": False}
    model = DRIFANet.from_preset(
        "drifa_tiny", pairing.shapes(size), pairing.tasks, **arrangement
    )
    steps = steps_per_epoch(parts["train"], 32)
    compile_model(
        model,
        schedule="cosine",
        steps=steps * arguments.epochs,
        steps_per_epoch=steps,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model,
            batches(
                parts["train"],
                image_size=size,
                batch_size=32,
                seed=seed,
                augment=Augment(flip="horizontal_and_vertical"),
                epochs=arguments.epochs,
            ),
            batches(parts["val"], image_size=size, batch_size=64, training=False),
            epochs=arguments.epochs,
            steps_per_epoch=steps,
            schedule="cosine",
            folder=folder,
            verbose=0,
        )
        model = keras.models.load_model(f"{folder}/model.keras")
    (result,) = predict_test(model, parts["test"], size).values()
    return classification_metrics(result.y_true, result.probabilities[0])


def report(arguments, groups, results):
    print(
        f"\n{arguments.dataset}, {arguments.image_size} px, {arguments.epochs} epochs, "
        f"{arguments.seeds} seeds, backend {keras.backend.backend()}\n"
    )
    print("| kept together | groups | " + " | ".join(SHOWN) + " |")
    print("|---" * (len(SHOWN) + 2) + "|")
    for name, scores in results.items():
        cells = [spread([score[key] for score in scores]) for key in SHOWN]
        print(f"| {name} | {groups[name]:,} | " + " | ".join(cells) + " |")
    base = results["groups and near duplicates"]
    for name in ("random", "groups"):
        cells = [
            spread([a[key] - b[key] for a, b in zip(results[name], base, strict=True)])
            for key in SHOWN
        ]
        print(f"| {name}, minus the last | | " + " | ".join(cells) + " |")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(
                {"arguments": vars(arguments), "results": results}, file, indent=1
            )


def spread(values):
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


if __name__ == "__main__":
    main()
