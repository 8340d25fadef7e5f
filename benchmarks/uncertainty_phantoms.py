"""Whether the uncertainty of a network can be relied on, on phantoms.

    python benchmarks/uncertainty_phantoms.py
    python benchmarks/uncertainty_phantoms.py --run runs/phantoms_aligned --json u.json

Trains an ensemble of `drifa_tiny` with `modality_dropout` once (minutes a member) on
aligned phantoms, a CT and a dermoscopic image of each lesion, and looks at 2,000 and
more test images that share no patient with the others:

- coverage of the conformal sets, mean over 20 divisions of the test patients into
  calibration and test halves;
- NLL of the validation images before and after temperature scaling, of each member;
- how well mutual information tells test images from out-of-distribution ones. Of these,
  `inverted` is what a reader makes of a DICOM file stored as MONOCHROME1 that takes it
  for MONOCHROME2: nothing but the contrast is another. `other kind` are MRI and Pap
  smear phantoms in the streams of CT and dermoscopy, with the same lesions; `noise` has
  the range of the pixels, and nothing else, in common. By the passes of the whole
  ensemble, and by those of single members, which is dropout alone;
- predictive entropy with one of the modalities missing.
"""

import argparse
import json
import tempfile
from pathlib import Path

import keras
import numpy as np

from drifa_keras import uncertainty
from drifa_keras.configs import parse_config
from drifa_keras.data import phantoms
from drifa_keras.evaluation import predict_passes, summarize_uncertainty
from drifa_keras.runs import Run, read_sources, read_splits
from drifa_keras.training import train_ensemble

TASK = "lesion"
SIZE, BATCH = 32, 256
# Images of each kind that the network does not know, and with a modality missing.
STRANGERS = 1000
OTHER_KIND = {"ct": "mri", "dermoscopy": "pap_smear"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", help="folder to keep the run in, or to read it from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--images", type=int, default=5200)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--json", help="write the figures to this file")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(arguments.run or Path(scratch) / "run")
        if folder.exists():
            run = Run.open(folder)
        else:
            config = configuration(arguments)
            run = train_ensemble(config, folder, arguments.members, verbose=2)
        report = measure(run, arguments.passes, arguments.seed)
    show(report)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")


def configuration(arguments):
    options = {
        "n": arguments.images,
        "aligned": True,
        "difficulty": arguments.difficulty,
        "seed": arguments.seed,
    }
    return parse_config(
        {
            "seed": arguments.seed,
            "data": {
                "sources": [{"reader": "phantoms", "options": options}],
                "image_size": SIZE,
                "split": (0.4, 0.2, 0.4),
                "augment": {"flip": "horizontal_and_vertical"},
            },
            "model": {
                "preset": "drifa_tiny",
                "arguments": {"modality_dropout": 0.2},
            },
            "training": {
                "epochs": arguments.epochs,
                "schedule": "cosine",
                "learning_rate": 0.002,
            },
        },
        "benchmarks/uncertainty_phantoms.py",
    )


def measure(run, passes, seed):
    pairing = read_sources(run.config)
    splits = read_splits(run, pairing)
    val, test = (splits.take(pairing, part) for part in ("val", "test"))
    options = run.config.data.sources[0].options
    ensemble = run.load_model()
    members = len(ensemble.members)
    on_val, on_test = (
        predict_passes(ensemble, part, (SIZE, SIZE), passes, seed, BATCH)[TASK]
        for part in (val, test)
    )
    val, test = val.sources[0], test.sources[0].take(np.arange(STRANGERS))

    def draw(images):
        found = uncertainty.predict(
            ensemble, images, passes, seed, batch_size=BATCH, return_passes=True
        )
        return found[TASK].passes

    def detection(inside, outside):
        return {
            name: uncertainty.ood_metrics(
                *(getattr(uncertainty, name)(p) for p in (inside, outside))
            )
            for name in ("mutual_information", "predictive_entropy")
        }

    out_of_distribution = {}
    for name, images in strangers(test, options, seed).items():
        outside = draw(images)
        # Passes come one member after another.
        out_of_distribution[name] = {
            "ensemble": detection(on_test.passes, outside),
            "members": [
                detection(*pair)
                for pair in zip(
                    np.split(on_test.passes, members),
                    np.split(outside, members),
                    strict=True,
                )
            ],
        }
    return {
        "backend": keras.backend.backend(),
        "seed": seed,
        "options": options,
        "members": members,
        "passes": passes,
        "summary": summarize_uncertainty(
            on_test, on_val, run.class_names[TASK], seed=seed
        ),
        "temperature": [temperature(member, val) for member in ensemble.members],
        "out_of_distribution": out_of_distribution,
        "entropy": {
            "all there": entropy(on_test.passes[:, :STRANGERS]),
            **{
                f"{name} missing": entropy(
                    draw({k: v for k, v in test.modalities.items() if k != name})
                )
                for name in test.modalities
            },
        },
    }


def temperature(model, val):
    """NLL of the validation images before and after `fit_temperature`."""
    y_true = val.targets[TASK]

    def nll():
        p = model.predict(val.modalities, verbose=0)[TASK]
        return uncertainty.negative_log_likelihood(y_true, p)

    before = nll()
    fitted = uncertainty.fit_temperature(model, val.modalities, {TASK: y_true})
    after = nll()
    uncertainty.set_temperature(model, 1.0)
    return {"temperature": fitted[TASK], "nll_before": before, "nll_after": after}


def strangers(test, options, seed):
    """Images of what the network was not trained on, by kind."""
    known = test.modalities
    options = {**options, "n": len(test), "seed": options["seed"] + 1}
    (other,) = phantoms(
        modalities=list(OTHER_KIND.values()), image_size=SIZE, **options
    )
    generator = np.random.default_rng(seed)
    return {
        "inverted": {name: 255 - images for name, images in known.items()},
        "other kind": {name: other.modalities[OTHER_KIND[name]] for name in known},
        "noise": {
            name: generator.integers(0, 256, images.shape, dtype="uint8")
            for name, images in known.items()
        },
    }


def entropy(passes):
    return float(uncertainty.predictive_entropy(passes).mean())


def show(report):
    summary = report["summary"]
    print(
        f"{summary['images']} test images of {summary['groups']} patients, "
        f"{report['members']} members with {report['passes']} passes, phantoms "
        f"{report['options']}, seed {report['seed']}, {report['backend']}"
    )
    for row in summary["table"]:
        scores = ("accuracy", "f1", "ece", "nll", "brier", "aurc")
        print(
            f"{'with' if row['uq'] else 'without':>7} UQ, temperature "
            f"{row['temperature']:.3f}: "
            + ", ".join(f"{name} {row[name]:.4f}" for name in scores)
        )
    for number, found in enumerate(report["temperature"]):
        print(
            f"member {number}: NLL of validation {found['nll_before']:.5f}, "
            f"{found['nll_after']:.5f} after temperature {found['temperature']:.3f}"
        )
    for method, found in summary["conformal"]["methods"].items():
        print(
            f"{method:>7}: coverage {found['coverage']:.4f}, sd "
            f"{found['spread']:.4f}, set size {found['set_size']:.3f}, empty "
            f"{found['empty']:.3f}"
        )
    for name, found in report["out_of_distribution"].items():
        for measure, scores in found["ensemble"].items():
            alone = [member[measure]["auroc"] for member in found["members"]]
            print(
                f"{name:>11} by {measure}: AUROC {scores['auroc']:.3f}, AUPR "
                f"{scores['aupr']:.3f}, FPR95 {scores['fpr95']:.3f}; AUROC of members "
                + ", ".join(f"{value:.3f}" for value in alone)
            )
    for name, value in report["entropy"].items():
        print(f"mean predictive entropy, {name}: {value:.4f}")


if __name__ == "__main__":
    main()
