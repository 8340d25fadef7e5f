"""Start, training, prediction and memory of every preset, on every backend.

    python benchmarks/table.py --json table.json
    python benchmarks/table.py --backends jax --presets drifa_tiny mail_tiny
    python benchmarks/table.py --presets drifa_resnet18_released \\
        --notebook path/to/drifa-net.ipynb

With `--json`, networks that the file holds already are not measured again: an
interrupted table goes on, and one of few presets grows. What is printed are the presets
that were asked for.

Two images a sample: 32x32x3 for presets called tiny, 128x128x3 for the others. Every
network runs in a process of its own, beside the plain network of its size: DRIFA-Net
without MFA and MIFA, which is two ResNet-18 and two heads, narrow ones for the tiny.
Both make one step in turn, again and again, so that whatever else the machine does
meets both alike; figures are medians, and ratios are taken between such turns. The
plain network, started once for all presets of its size, is a reference of the rest.

`of the product` is how much of the speed of a product of two float32 matrices, taken
in the same process, the multiply-adds of a training step (three times those of a
prediction) reach. `passes` is prediction with 20 passes of Monte-Carlo dropout,
`pipeline` what it takes to make a batch of augmented images from memory. Memory is the
peak of a process that trains and predicts.
"""

import argparse
import datetime
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time

from train_step import BATCHES, PASSES, PRODUCT, Worker

_BACKENDS = ("tensorflow", "jax", "torch")
_PLAIN = {"tiny": "drifa_tiny", "full": "drifa_resnet18_released"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", nargs="+", choices=_BACKENDS)
    parser.add_argument("--presets", nargs="+", help="all by default")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--notebook", help="the authors' drifa-net.ipynb (TensorFlow)")
    parser.add_argument("--json", help="write the figures to this file, or add them")
    arguments = parser.parse_args()
    backends = arguments.backends or [
        name for name in _BACKENDS if importlib.util.find_spec(name)
    ]
    presets = arguments.presets or all_presets()
    found = begun(arguments)
    for backend in backends:
        if backend not in found["start-up"]:
            found["start-up"][backend] = start_up(backend, arguments.steps)
            keep(arguments, found)
    done = {(row["preset"], row["backend"]) for row in found["networks"]}
    for backend in backends:
        for tiny in (True, False):
            left = [
                preset
                for preset in presets
                if preset.endswith("_tiny") == tiny and (preset, backend) not in done
            ]
            if not left:
                continue
            options = options_of(arguments, backend, tiny)
            names = ["plain", "authors"] if options.notebook else ["plain"]
            others = {name: Worker(options, name) for name in names}
            for preset in left:
                row = measure(options, others, arguments.steps, preset)
                found["networks"].append(
                    {
                        "preset": preset,
                        "backend": backend,
                        "measured": datetime.date.today().isoformat(),
                        **row,
                    }
                )
                keep(arguments, found)
            for other in others.values():
                other.stop()
    asked = [row for row in found["networks"] if row["preset"] in presets]
    report({**found, "networks": asked})


def begun(arguments):
    """The figures of the file, or the beginning of a new one."""
    setting = {"machine": machine(), "batch_size": arguments.batch_size}
    if not (arguments.json and os.path.exists(arguments.json)):
        return {**setting, "start-up": {}, "networks": []}
    with open(arguments.json, encoding="utf-8") as file:
        found = json.load(file)
    of_file = {key: found[key] for key in setting}
    if of_file != setting:
        sys.exit(
            f"{arguments.json} holds figures of {of_file}. This is {setting}. Name "
            "another file."
        )
    return found


def keep(arguments, found):
    """Writes the figures so far, where a file is named."""
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)


def all_presets():
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from drifa_keras.models import presets

    return list(presets())


def machine():
    import platform
    from importlib import metadata

    names = [n for n in ("keras", *_BACKENDS) if importlib.util.find_spec(n)]
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in names},
    }


def start_up(backend, rounds):
    """Seconds of `import keras` and of `import drifa_keras`, each in a new process."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    times = {"keras": [], "drifa_keras": []}
    for _ in range(rounds):
        for name, taken in times.items():
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", f"import {name}"],
                env=environment,
                check=True,
                stderr=subprocess.DEVNULL,
            )
            taken.append(time.perf_counter() - start)
    # Neighbours in time, so that other jobs meet both.
    added = [b - a for a, b in zip(*times.values(), strict=True)]
    return {
        **{name: statistics.median(taken) for name, taken in times.items()},
        "added": statistics.median(added),
    }


def options_of(arguments, backend, tiny):
    """What the networks of a backend and a size are measured with."""
    return argparse.Namespace(
        backend=backend,
        preset=_PLAIN["tiny" if tiny else "full"],
        image_size=32 if tiny else 128,
        batch_size=arguments.batch_size,
        notebook=None if tiny or backend != "tensorflow" else arguments.notebook,
    )


def measure(options, others, steps, preset):
    """Figures of a preset, alone and against the networks beside it."""
    print(f"{preset} on {options.backend} ...", file=sys.stderr)
    worker = Worker(options, preset)
    for what in ("train", "predict"):
        for _ in range(steps):
            for one in (worker, *others.values()):
                one.ask(what)
    for what in ("passes", "product", "pipeline"):
        for _ in range(steps):
            worker.ask(what)
    ours = worker.stop()
    done = 2 * 3 * ours["multiply_adds"] * options.batch_size / ours["train_s"]
    row = {
        "image_size": options.image_size,
        **ours,
        "pipeline_s": ours["pipeline_s"] / BATCHES,
        "of_the_product": done / (2 * PRODUCT**3 / ours["product_s"]),
    }
    for name, other in others.items():
        theirs = other.figures()
        keys = ("first_step_s", "train_s", "predict_s", "peak_memory_gib")
        row[f"against_{name}"] = {
            key: ours[key] / theirs[key]
            for key in (*keys, "multiply_adds")
            if theirs[key] is not None
        }
    return row


def report(found):
    print(f"\n{json.dumps(found['machine'])}, batch {found['batch_size']}\n")
    print("| backend | import keras s | import drifa_keras s | added s |")
    print("|---" * 4 + "|")
    for backend, times in found["start-up"].items():
        cells = [f"{times[name]:.2f}" for name in ("keras", "drifa_keras", "added")]
        print(f"| {backend} | {' | '.join(cells)} |")
    count = found["batch_size"]
    columns = (
        ("preset", lambda r: r["preset"]),
        ("backend", lambda r: r["backend"]),
        ("pixels", lambda r: str(r["image_size"])),
        ("first step s", lambda r: f"{r['first_step_s']:.1f}"),
        ("train pairs/s", lambda r: f"{count / r['train_s']:.1f}"),
        ("of the product", lambda r: f"{r['of_the_product']:.2f}"),
        ("predict pairs/s", lambda r: f"{count / r['predict_s']:.1f}"),
        (f"{PASSES} passes pairs/s", lambda r: f"{count / r['passes_s']:.1f}"),
        ("pipeline / step", lambda r: f"{r['pipeline_s'] / r['train_s']:.2f}"),
        ("peak GiB", lambda r: f"{r['peak_memory_gib']:.2f}"),
    )
    ratios = (
        ("step", "train_s"),
        ("multiply-adds", "multiply_adds"),
        ("predict", "predict_s"),
        ("memory", "peak_memory_gib"),
        ("first step", "first_step_s"),
    )
    print()
    table(columns, found["networks"])
    for other in ("plain", "authors"):
        key = f"against_{other}"
        rows = [row for row in found["networks"] if key in row]
        if rows:
            print(f"\nAgainst {other}:\n")
            table(
                [
                    *columns[:2],
                    *(
                        (title, lambda r, key=key, of=of: ratio(r[key].get(of)))
                        for title, of in ratios
                    ),
                ],
                rows,
            )


def ratio(value):
    return "-" if value is None else f"{value:.2f}"


def table(columns, rows):
    print("| " + " | ".join(title for title, _ in columns) + " |")
    print("|---" * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(show(row) for _, show in columns) + " |")


if __name__ == "__main__":
    main()
