"""Start-up, training step, prediction and memory of the networks.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --beside plain mail_released
    python benchmarks/train_step.py --backend jax --notebook path/to/drifa-net.ipynb

Every network runs in a process of its own, on the same random batch of two 128x128x3
images. They start one after another; then each makes one training step in turn, again
and again, so that whatever else the machine does meets all of them alike. Figures are
medians over the rounds. The processor time of a step, over all threads, is moved less
by other jobs than its time on the clock. `plain` is the two-branch ResNet-18 left
of DRIFA-Net without MFA and MIFA, `rematerialized` the preset with the branches of its
MFA worked out again in the backward pass, and `bfloat16` the preset in mixed precision.
The authors' network is built by the cells of their notebook where the reader has it.
Ratios are taken within one run of this script.
"""

import argparse
import collections
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time

# Of Monte-Carlo dropout; the side of the matrices of a product; batches of a pipeline,
# more than it makes ahead.
PASSES, PRODUCT, BATCHES = 20, 2048, 32

# The parts of the authors' notebook that define and build the network.
_NOTEBOOK_CELLS = (
    "class DeeperAttentionLayer1",
    "class DeeperAttentionLayer(",
    "def RGSA",
    "def residual_GLC_branch1",
    "Model([inputs1, inputs2]",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND"))
    parser.add_argument("--preset", default="drifa_resnet18_released")
    parser.add_argument(
        "--beside",
        nargs="+",
        default=["plain"],
        help="other presets to measure, or `plain`, `rematerialized`, `bfloat16`",
    )
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--notebook", help="the authors' drifa-net.ipynb (TensorFlow)")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.backend = arguments.backend or "tensorflow"
    if arguments.worker:
        serve(arguments)
        return
    names = [arguments.preset, *arguments.beside]
    if arguments.notebook:
        names.append("authors")
    workers = {}
    for name in names:
        print(f"starting {name} on {arguments.backend} ...", file=sys.stderr)
        workers[name] = Worker(arguments, name)
    print("measuring ...", file=sys.stderr)
    for what in ("train", "predict"):
        for _ in range(arguments.steps):
            for worker in workers.values():
                worker.ask(what)
    report(arguments, {name: worker.stop() for name, worker in workers.items()})


class Worker:
    """A process with one network, which makes a step when it is asked."""

    def __init__(self, arguments, name):
        backend = "tensorflow" if name == "authors" else arguments.backend
        self.name = name
        command = [
            *(sys.executable, __file__, "--worker", name),
            *("--backend", backend, "--preset", arguments.preset),
            *("--image-size", str(arguments.image_size)),
            *("--batch-size", str(arguments.batch_size)),
        ]
        if name == "authors":
            command += ["--notebook", arguments.notebook]
        self.process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.result = self._read()
        self.times = collections.defaultdict(list)

    def ask(self, what):
        """Times one call of `what`, on the clock and on the processor."""
        self._write(what)
        for clock, seconds in self._read().items():
            self.times[f"{what}_{clock}"].append(seconds)

    def figures(self):
        """Medians of what was timed since the last time, and the start and the peak."""
        medians = {key: statistics.median(times) for key, times in self.times.items()}
        self.times.clear()
        self._write("peak")
        return {**self.result, **medians, **self._read()}

    def stop(self):
        """Ends the process and returns its figures."""
        figures = self.figures()
        self._write("stop")
        self.process.wait()
        return figures

    def _write(self, line):
        print(line, file=self.process.stdin, flush=True)

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} failed.")
        return json.loads(line)


def serve(arguments):
    """The other side of `Worker`: a line of JSON for every line that comes in."""
    import keras  # noqa: F401  (its import is not part of the start)

    import drifa_keras  # noqa: F401

    begin = time.perf_counter()
    if arguments.worker == "authors":
        model, x, y = authors_network(arguments)
    else:
        model, x, y = our_network(arguments)
    built = time.perf_counter()
    model.train_on_batch(x, y)
    started = {
        "parameters": model.count_params(),
        "trainable_variables": len(model.trainable_variables),
        "multiply_adds": multiply_adds(arguments, model),
        "build_s": built - begin,
        "first_step_s": time.perf_counter() - begin,
    }
    model.predict_on_batch(x)
    calls = {
        "train": lambda: model.train_on_batch(x, y),
        "predict": lambda: model.predict_on_batch(x),
    }
    print(json.dumps(started), flush=True)
    peak = peak_memory_gib()
    for line in sys.stdin:
        what = line.strip()
        if what == "stop":
            break
        if what == "peak":
            print(json.dumps({"peak_memory_gib": peak}), flush=True)
            continue
        if what not in calls:
            calls[what] = _MORE[what](model, x)
            calls[what]()  # which compiles
        print(json.dumps(timed(calls[what])), flush=True)
        if what not in _MORE:
            peak = peak_memory_gib()


def passes(model, x):
    """Prediction of a batch with Monte-Carlo dropout."""
    from drifa_keras import uncertainty

    count = len(next(iter(x.values())))
    return lambda: uncertainty.predict(model, x, PASSES, batch_size=count, verbose=0)


def product(model, x):
    """A product of two float32 matrices: as fast as this machine multiplies."""
    import numpy as np
    from keras import ops

    rng = np.random.default_rng(0)
    a, b = (
        ops.convert_to_tensor(rng.random((PRODUCT, PRODUCT), "float32")) for _ in "ab"
    )
    return lambda: ops.convert_to_numpy(ops.matmul(a, b)[0, 0])


def pipeline(model, x):
    """`BATCHES` batches of such images from memory, augmented."""
    from drifa_keras.data import Augment, Source, batches, pair

    size = next(iter(x.values())).shape[1:3]
    count = len(next(iter(x.values())))
    sources = [
        Source(name, {name: images}, {name: [0] * count}, {name: ["one", "other"]})
        for name, images in x.items()
    ]
    augment = Augment(flip="horizontal_and_vertical", rotation=0.055, translation=0.08)
    stream = iter(
        batches(pair(sources), image_size=size, batch_size=count, augment=augment)
    )
    return lambda: [next(stream) for _ in range(BATCHES)]


_MORE = {"passes": passes, "product": product, "pipeline": pipeline}


def timed(call):
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return {
        "s": time.perf_counter() - clock,
        "cpu_s": time.process_time() - processor,
    }


def our_network(arguments):
    import drifa_keras as dk
    from drifa_keras.training import compile_model, random_batch, rematerialized

    preset, overrides, scope = arguments.worker, {}, contextlib.nullcontext()
    if preset == "rematerialized":
        preset, scope = arguments.preset, rematerialized()
    elif preset == "bfloat16":
        preset, overrides = arguments.preset, {"dtype": "mixed_bfloat16"}
    elif preset == "plain":
        preset, overrides = arguments.preset, {"mfa": False, "mifa": False}
        if dk.models.preset_class(preset) is not dk.DRIFANet:
            preset = "drifa_resnet18_released"
    elif dk.models.preset_class(preset) is dk.models.baselines.SingleModalityNet:
        overrides["task_modality"] = {
            "skin_lesion": "dermoscopy",
            "cervical_cell": "pap_smear",
        }
    shape = (arguments.image_size, arguments.image_size, 3)
    with scope:
        model = dk.MultimodalModel.from_preset(
            preset,
            modalities={"dermoscopy": shape, "pap_smear": shape},
            tasks={"skin_lesion": 7, "cervical_cell": 5},
            **overrides,
        )
    compile_model(model)
    return model, *random_batch(model, arguments.batch_size)


def authors_network(arguments):
    """Runs the cells of the notebook that build the network, and compiles as there."""
    import tensorflow as tf
    from tensorflow.keras import layers

    from drifa_keras.training import random_batch

    with open(arguments.notebook, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    names = {
        "tf": tf,
        "layers": layers,
        "Input": tf.keras.Input,
        "Model": tf.keras.Model,
        **{
            name: getattr(layers, name)
            for name in (
                "BatchNormalization",
                "Conv2D",
                "Dense",
                "GlobalAveragePooling2D",
                "MaxPooling2D",
            )
        },
    }
    for marker in _NOTEBOOK_CELLS:
        source = next(source for source in sources if marker in source)
        # What the cells print is no figure of ours.
        with contextlib.redirect_stdout(sys.stderr):
            exec(source, names)
    model = names["model"]
    model.compile(
        optimizer=tf.keras.optimizers.Adam(1e-3),
        loss=["categorical_crossentropy"] * 2,
        loss_weights=[0.5, 0.5],
        metrics=["accuracy", "accuracy"],
    )
    images, labels = random_batch(model, arguments.batch_size)
    return model, [image.astype("float32") / 255 for image in images], labels


def multiply_adds(arguments, model):
    if arguments.worker == "authors":
        return None
    from drifa_keras.models import cost

    return cost(model).multiply_adds


def peak_memory_gib():
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def report(arguments, results):
    import platform

    batch = arguments.batch_size
    print(
        f"\n{arguments.preset}, two {arguments.image_size}x{arguments.image_size}x3, "
        f"batch {batch}, backend {arguments.backend}, {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}\n"
    )
    columns = (
        ("parameters", lambda r: f"{r['parameters']:,}"),
        ("variables", lambda r: str(r["trainable_variables"])),
        ("first step s", lambda r: f"{r['first_step_s']:.1f}"),
        ("step s", lambda r: f"{r['train_s']:.3f}"),
        ("step processor s", lambda r: f"{r['train_cpu_s']:.3f}"),
        ("train pairs/s", lambda r: f"{batch / r['train_s']:.1f}"),
        ("predict pairs/s", lambda r: f"{batch / r['predict_s']:.1f}"),
        ("peak GiB", lambda r: f"{r['peak_memory_gib']:.2f}"),
    )
    print("| network | " + " | ".join(title for title, _ in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, result in results.items():
        cells = [show(result) for _, show in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    ours, ratios = results[arguments.preset], {}
    for name in arguments.beside:
        for title, key in (
            ("training step", "train_s"),
            ("processor time of it", "train_cpu_s"),
            ("multiply-adds", "multiply_adds"),
            ("prediction", "predict_s"),
            ("memory", "peak_memory_gib"),
        ):
            ratios[f"{title}, against {name}"] = ours[key] / results[name][key]
    for name in results if "authors" in results else ():
        if name in ("plain", "authors"):
            continue
        for title, key, inverse in (
            ("first step", "first_step_s", False),
            ("training throughput", "train_s", True),
            ("prediction throughput", "predict_s", True),
            ("memory", "peak_memory_gib", False),
        ):
            ratio = results[name][key] / results["authors"][key]
            title = f"{title}, {name} against authors"
            ratios[title] = 1 / ratio if inverse else ratio
    print("\n| ratio | |\n|---|---|")
    for name, value in ratios.items():
        print(f"| {name} | {value:.2f} |")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"results": results, "ratios": ratios}, file, indent=2)


if __name__ == "__main__":
    main()
