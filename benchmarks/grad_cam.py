"""Grad-CAM: time against one forward and backward pass of the same network.

    python benchmarks/grad_cam.py
    python benchmarks/grad_cam.py --backend torch --preset drifa_tiny --image-size 32

`explain.grad_cam` makes the maps of both inputs of 64 pairs of images, from arrays to
arrays. Beside it stand a pass that ends at the weights, a `train_on_batch` by SGD, and
one that ends at the images, `gradients.value_and_grad`, which leaves the gradients of
the weights out and so costs less. All are warm, in batches of equal size, and measured
in turns, round after round; ratios are taken within a round, so that what else the
machine does weighs on all alike. Ratios of processor time are given beside those of the
clock: on CPUs they hardly depend on what else runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

TASKS = {"skin_lesion": 7, "cervical_cell": 5}
MODALITIES = ("dermoscopy", "pap_smear")
TARGET = 2.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND"))
    parser.add_argument("--preset", default="drifa_resnet18")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.backend = arguments.backend or "tensorflow"
    if arguments.worker:
        print(json.dumps(measure(arguments)))
        return
    print(f"measuring on {arguments.backend} ...", file=sys.stderr)
    report(arguments, run_worker(arguments))


def run_worker(arguments):
    command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
    environment = {
        **os.environ,
        "KERAS_BACKEND": arguments.backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments):
    import keras

    import drifa_keras as dk

    size, task = arguments.batch_size, next(iter(TASKS))
    shape = (arguments.image_size, arguments.image_size, 3)
    model = dk.MultimodalModel.from_preset(
        arguments.preset, modalities=dict.fromkeys(MODALITIES, shape), tasks=TASKS
    )
    model.compile("sgd", "categorical_crossentropy")
    count = arguments.samples
    images, targets = dk.training.random_batch(model, count)
    batches = [
        [
            {k: x[start : start + size] for k, x in of.items()}
            for of in (images, targets)
        ]
        for start in range(0, count, size)
    ]
    gradient_of = dk.gradients.value_and_grad(
        lambda logits: keras.ops.max(logits[task], axis=-1), model.logits_model
    )

    def grad_cam():
        dk.explain.grad_cam(model, images, task=task, batch_size=size)

    def to_images():
        for x, _ in batches:
            keras.tree.map_structure(keras.ops.convert_to_numpy, gradient_of(x))

    def to_weights():
        for x, y in batches:
            model.train_on_batch(x, y)

    def forward():
        for x, _ in batches:
            model.predict_on_batch(x)

    ways = {f.__name__: f for f in (grad_cam, to_images, to_weights, forward)}
    first = {}
    for name, way in ways.items():
        first[name] = timed(way)[0]  # compiles
        way()
    return {
        "first_s": first,
        "rounds": [
            {name: timed(way) for name, way in ways.items()}
            for _ in range(arguments.rounds)
        ],
    }


def timed(call):
    """Seconds of the clock and of the processor that a call takes."""
    clocks = (time.perf_counter, time.process_time)
    start = [clock() for clock in clocks]
    call()
    return [clock() - begin for clock, begin in zip(clocks, start, strict=True)]


def report(arguments, results):
    import platform

    print(
        f"\n{arguments.preset}, two {arguments.image_size}x{arguments.image_size}x3, "
        f"{arguments.samples} pairs, batches of {arguments.batch_size}, backend "
        f"{arguments.backend}, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}\n"
    )
    titles = {
        "to_weights": f"Grad-CAM / pass to the weights (below {TARGET})",
        "to_images": "Grad-CAM / pass to the images",
        "forward": "Grad-CAM / prediction",
    }
    print("Median of the rounds (least to most):\n")
    print("| ratio | by the clock | by processor time |\n|---|---|---|")
    for under, title in titles.items():
        cells = []
        for clock in range(2):
            values = [r["grad_cam"][clock] / r[under][clock] for r in results["rounds"]]
            cells.append(
                f"{statistics.median(values):.2f} "
                f"({min(values):.2f} to {max(values):.2f})"
            )
        print(f"| {title} | " + " | ".join(cells) + " |")
    seconds = statistics.median(r["grad_cam"][0] for r in results["rounds"])
    print(
        f"\nGrad-CAM takes {seconds:.2f} s, the first time "
        f"{results['first_s']['grad_cam']:.1f} s."
    )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
