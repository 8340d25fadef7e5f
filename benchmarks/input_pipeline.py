"""Images a second: the input pipeline, a bare decoding loop, and what training eats.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --root ./data

Two modalities, 128x128x3, batches of 32. `--root` takes the folder of HAM10000 and
SIPaKMeD; without it JPEG files of the size of HAM10000's originals (600x450) are made
in a temporary folder. The bare loop opens, decodes and resizes the same files with
Pillow on all cores and does nothing else. All figures are of one run, taken in turns.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from drifa_keras.data import DATASETS, Augment, Source, batches, pair, phantoms
from drifa_keras.models import DRIFANet
from drifa_keras.training import compile_model, random_batch

RECIPE = Augment(flip="horizontal_and_vertical", rotation=0.055, translation=0.08)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder of HAM10000 and SIPaKMeD")
    parser.add_argument("--preset", default="drifa_resnet18")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=30, help="timed, of each kind")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, sources(arguments.root, Path(folder)))


def sources(root, folder):
    """Two sources of files, in an order that mixes their folders."""
    if root is not None:
        both = [DATASETS[name].read(root) for name in ("ham10000", "sipakmed")]
    else:
        both = [written(source, folder) for source in phantoms(n=500, image_size=450)]
    generator = np.random.default_rng(0)
    return [source.take(generator.permutation(len(source))) for source in both]


def written(source, folder):
    ((name, images),) = source.modalities.items()
    paths = []
    for row, image in enumerate(images):
        paths.append(folder / f"{name}-{row}.jpg")
        picture = Image.fromarray(image.repeat(3 // image.shape[-1], axis=-1))
        picture.resize((600, 450)).save(paths[-1], quality=95)
    return Source(source.name, {name: paths}, source.targets, source.class_names)


def measure(arguments, both):
    size = (arguments.image_size,) * 2
    pairing = pair(both)
    count = arguments.batch_size * arguments.batches
    paths = [store[:count] for s in both for store in s.modalities.values()]
    paths = np.concatenate(paths).tolist()
    in_memory = pair(
        [source.take(range(min(len(source), count))).load(size) for source in both]
    )
    step = training_step(arguments, pairing, size)
    feeds = {
        "files": (pairing, None),
        "files, augmented": (pairing, RECIPE),
        "memory, augmented": (in_memory, RECIPE),
    }
    speeds = {name: [] for name in ("bare loop", *feeds, "training step")}
    for _ in range(arguments.repeats):
        speeds["bare loop"].append(bare_loop(paths, size))
        for name, (fed, augment) in feeds.items():
            speeds[name].append(pipeline(fed, size, augment, arguments))
        speeds["training step"].append(step())
    report(arguments, {name: statistics.median(v) for name, v in speeds.items()})


def bare_loop(paths, size):
    def read(path):
        with Image.open(path) as image:
            return np.asarray(
                image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        start = time.perf_counter()
        for _ in pool.map(read, paths):
            pass
        return len(paths) / (time.perf_counter() - start)


def pipeline(pairing, size, augment, arguments):
    dataset = batches(
        pairing, image_size=size, batch_size=arguments.batch_size, augment=augment
    )
    stream = iter(dataset)
    # What was prefetched while the first batch was waited for is not counted.
    for _ in islice(stream, 8):
        pass
    start = time.perf_counter()
    for _ in islice(stream, arguments.batches):
        pass
    pairs = arguments.batches * arguments.batch_size
    return len(pairing.modalities) * pairs / (time.perf_counter() - start)


def training_step(arguments, pairing, size):
    model = DRIFANet.from_preset(arguments.preset, pairing.shapes(size), pairing.tasks)
    compile_model(model)
    images, targets = random_batch(model, arguments.batch_size)
    model.train_on_batch(images, targets)
    model.train_on_batch(images, targets)

    def run(steps=3):
        start = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(images, targets)
        count = len(images) * arguments.batch_size * steps
        return count / (time.perf_counter() - start)

    return run


def report(arguments, speeds):
    size = arguments.image_size
    print(
        f"\ntwo modalities, {size}x{size}x3, batch {arguments.batch_size}, backend "
        f"{keras.backend.backend()}, {os.cpu_count()} cores, "
        f"{arguments.root or 'JPEG files of 600x450'}\n"
    )
    print("| | images/s | of the bare loop | of the training step |\n|---|---|---|---|")
    for name, speed in speeds.items():
        loop, step = speed / speeds["bare loop"], speed / speeds["training step"]
        print(f"| {name} | {speed:,.0f} | {loop:.2f} | {step:.1f} |")


if __name__ == "__main__":
    main()
