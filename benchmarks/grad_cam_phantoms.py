"""Whether Grad-CAM points at what a network looks at, on phantoms with known lesions.

    python benchmarks/grad_cam_phantoms.py
    python benchmarks/grad_cam_phantoms.py --run runs/small_lesions --json g.json
    python benchmarks/grad_cam_phantoms.py --run runs/small_lesions \
        --layers {}_stage0_block1_mfa {}_stage1_block0_mfa

Trains a small DRIFA-Net once on two made-up modalities whose lesions cover a thirtieth
of the image and lie anywhere in it. The class shows in the lesion alone, so that a
network that is right must have looked there. Of the test images that it classified
correctly, and the modality that the task is about:

- pointing game: how often the map's maximum falls into the lesion, and how often it is
  at most 3 % of the image's side away, which is the tolerance of those who invented the
  game (Zhang et al., ECCV 2016: 15 px of about 500). The class of a star-shaped lesion
  shows in the gaps between its rays, too, which are outside of it. A map without any
  evidence is a miss;
- energy: which share of the map's sum lies inside the lesion (Wang et al., CVPRW 2020),
  and how many times the share of a centre-weighted blob that is, a Gaussian whose
  standard deviation is a quarter of the image's side;
- both again for the same images and classes after the weights were randomised (Adebayo
  et al., NeurIPS 2018): drawn anew as for a fresh network, mean over several. A map
  that still points at lesions then tells of the image, not of the network.

Chance is the mean share of the image that lesions cover, or they and the tolerance.
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from scipy.ndimage import distance_transform_edt

from drifa_keras import explain
from drifa_keras.configs import parse_config
from drifa_keras.runs import Run, load_images, read_sources, read_splits
from drifa_keras.training import train

TOLERANCE = 0.03
METHODS = ("grad_cam", "grad_cam++")
BATCH = 40


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", help="folder to keep the run in, or to read it from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--lesion-size", type=float, default=0.4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--filters", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--randomisations", type=int, default=10)
    parser.add_argument(
        "--layers",
        nargs="+",
        default=[None],
        help="layers instead of the one chosen by itself; {} is the modality",
    )
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.run or Path(scratch) / "run")
        if folder.exists():
            run = Run.open(folder)
        else:
            run = train(configuration(arguments), folder, verbose=2)
        report = {
            "backend": keras.backend.backend(),
            "seed": run.config.seed,
            "image_size": run.config.data.size,
            "options": run.config.data.sources[0].options,
            "randomisations": arguments.randomisations,
            "rows": measure(run, arguments.randomisations, arguments.layers),
        }
    show(report)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")


def configuration(arguments):
    """That of `drifa demo`, with larger images and smaller lesions."""
    options = {
        "n": arguments.images,
        "image_size": arguments.image_size,
        "lesion_size": arguments.lesion_size,
        "seed": arguments.seed,
    }
    return parse_config(
        {
            "seed": arguments.seed,
            "data": {
                "sources": [{"reader": "phantoms", "options": options}],
                "image_size": arguments.image_size,
                "augment": {"flip": "horizontal_and_vertical"},
            },
            "model": {
                "preset": "drifa_tiny",
                "arguments": {"filters": arguments.filters},
            },
            "training": {
                "epochs": arguments.epochs,
                "schedule": "cosine",
                "learning_rate": 0.002,
            },
        },
        "benchmarks/grad_cam_phantoms.py",
    )


def measure(run, randomisations, layers=(None,)):
    """Scores of trained and randomised networks, a dict for each way to make maps."""
    pairing = read_sources(run.config)
    test = read_splits(run, pairing).take(pairing, "test")
    test = load_images(test, run.config)
    indices, counted = test.once(run.config.seed)
    shown = {
        name: source.modalities[name][indices[:, column]]
        for column, source in enumerate(test.sources)
        for name in source.modalities
    }
    model = run.load_model()
    probabilities = model.predict(shown, batch_size=BATCH, verbose=0)
    weights = [model.get_weights()]
    for seed in range(randomisations):
        keras.utils.set_random_seed(1000 + seed)
        weights.append(type(model).from_config(model.get_config()).get_weights())
    rows = []
    for column, source in enumerate(test.sources):
        for task, labels in source.targets.items():
            labels = labels[indices[:, column]]
            right = probabilities[task].argmax(axis=1) == labels
            accuracy = float(right[counted[:, column]].mean())
            right &= counted[:, column]
            images = {name: array[right] for name, array in shown.items()}
            for name in source.modalities:
                masks = source.masks[name][indices[right, column]]
                for layer in layers:
                    for method in METHODS:
                        scores = []
                        for drawn in weights:
                            model.set_weights(drawn)  # compiled once
                            maps = explain.grad_cam(
                                model,
                                images,
                                task,
                                labels[right],
                                layer=layer and layer.format(name),
                                method=method,
                                inputs=[name],
                                batch_size=BATCH,
                            )
                            scores.append(score(maps[name], masks))
                        rows.append(
                            {
                                "task": task,
                                "modality": name,
                                "accuracy": accuracy,
                                "images": len(masks),
                                "chance": float(masks.mean()),
                                "chance_near": float(surroundings(masks).mean()),
                                "layer": layer,
                                "method": method,
                                "trained": scores[0],
                                "randomised": scores[1:],
                            }
                        )
    return rows


def score(maps, masks):
    """Hit rates, energy, and energy as a multiple of the blob's."""
    rows, pixels = np.arange(len(maps)), maps.reshape(len(maps), -1)
    found = pixels.max(axis=1) > 0
    hits, near = (
        (of.reshape(len(maps), -1)[rows, pixels.argmax(axis=1)] & found).mean()
        for of in (masks, surroundings(masks))
    )
    energy = (maps * masks).sum(axis=(1, 2)) / np.where(found, pixels.sum(axis=1), 1)
    of_blob = (blob(masks.shape[1:]) * masks).sum(axis=(1, 2))
    return {
        "hits": float(hits),
        "near": float(near),
        "energy": float(energy.mean()),
        "of_blob": float(energy.mean() / of_blob.mean()),
    }


def surroundings(masks):
    """The masks, and what is within the tolerance around them."""
    reach = TOLERANCE * max(masks.shape[1:])
    return np.stack([distance_transform_edt(~mask) <= reach for mask in masks])


def blob(size):
    """A Gaussian in the middle of the image, sum 1."""
    down, across = (
        np.exp(-(((np.arange(n) + 0.5) / n - 0.5) ** 2) / (2 * 0.25**2)) for n in size
    )
    picture = np.outer(down, across)
    return picture / picture.sum()


def show(report):
    print(
        f"phantoms {report['options']}, {report['image_size']} px, seed "
        f"{report['seed']}, {report['backend']}; randomised: mean of "
        f"{report['randomisations']} (least to most)\n"
    )
    print(
        "| task | method | layer | accuracy | images | chance | hits | chance near | "
        "near | of-blob | hits randomised | near randomised | of-blob randomised |"
    )
    print("|---" * 13 + "|")
    for row in report["rows"]:
        cells = [
            row["task"],
            row["method"],
            row["layer"] or "chosen",
            f"{row['accuracy']:.3f}",
            str(row["images"]),
            f"{row['chance']:.3f}",
            f"{row['trained']['hits']:.3f}",
            f"{row['chance_near']:.3f}",
            f"{row['trained']['near']:.3f}",
            f"{row['trained']['of_blob']:.2f}",
        ]
        for name in ("hits", "near", "of_blob"):
            values = [scores[name] for scores in row["randomised"]] or [np.nan]
            cells.append(
                f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
            )
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
