"""Start-up, training step, prediction and memory of the networks.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --preset mail --beside drifa_resnet18_released
    python benchmarks/train_step.py --backend jax --notebook path/to/drifa-net.ipynb

Every network runs in a process of its own, one after another, on the same random
batch of two 128x128x3 images. `plain` is the two-branch ResNet-18 that is left of
DRIFA-Net without MFA and MIFA. The authors' network is built by the cells of their
notebook where the reader has it. Ratios are taken within one run of this script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

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
        "--beside", nargs="+", default=[], help="other presets to measure as well"
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
        print(json.dumps(measure(arguments)))
        return
    names = [arguments.preset, *arguments.beside, "plain"]
    if arguments.notebook:
        names.append("authors")
    results = {}
    for name in names:
        print(f"measuring {name} on {arguments.backend} ...", file=sys.stderr)
        results[name] = run_worker(arguments, name)
    report(arguments, results)


def run_worker(arguments, name):
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
    backend = "tensorflow" if name == "authors" else arguments.backend
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(arguments):
    import keras  # noqa: F401  (its import is not part of the start)

    import drifa_keras  # noqa: F401

    begin = time.perf_counter()
    if arguments.worker == "authors":
        model, x, y = authors_network(arguments)
    else:
        model, x, y = our_network(arguments)
    built = time.perf_counter()
    model.train_on_batch(x, y)
    first = time.perf_counter()
    steps = timed(lambda: model.train_on_batch(x, y), arguments.steps)
    predictions = timed(lambda: model.predict_on_batch(x), arguments.steps + 1)[1:]
    return {
        "parameters": model.count_params(),
        "trainable_variables": len(model.trainable_variables),
        "build_s": built - begin,
        "first_step_s": first - begin,
        "step_s": statistics.median(steps),
        "predict_s": statistics.median(predictions),
        "peak_memory_gib": peak_memory_gib(),
        "multiply_adds": multiply_adds(arguments, model),
    }


def timed(call, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def our_network(arguments):
    import drifa_keras as dk
    from drifa_keras.training import compile_model

    preset, plain = arguments.worker, {}
    if preset == "plain":
        preset, plain = arguments.preset, {"mfa": False, "mifa": False}
        if dk.models.preset_class(preset) is not dk.DRIFANet:
            preset = "drifa_resnet18_released"
    shape = (arguments.image_size, arguments.image_size, 3)
    model = dk.MultimodalModel.from_preset(
        preset,
        modalities={"dermoscopy": shape, "pap_smear": shape},
        tasks={"skin_lesion": 7, "cervical_cell": 5},
        **plain,
    )
    compile_model(model)
    images, labels = random_batch(arguments, (7, 5))
    x = dict(zip(("dermoscopy", "pap_smear"), images, strict=True))
    return model, x, dict(zip(("skin_lesion", "cervical_cell"), labels, strict=True))


def authors_network(arguments):
    """Runs the cells of the notebook that build the network, and compiles as there."""
    import tensorflow as tf
    from tensorflow.keras import layers

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
        exec(source.replace("print(model.summary())", ""), names)
    model = names["model"]
    model.compile(
        optimizer=tf.keras.optimizers.Adam(1e-3),
        loss=["categorical_crossentropy"] * 2,
        loss_weights=[0.5, 0.5],
        metrics=["accuracy", "accuracy"],
    )
    images, labels = random_batch(arguments, (5, 7))
    return model, images, labels


def random_batch(arguments, classes):
    import numpy as np

    rng = np.random.default_rng(0)
    size = (arguments.batch_size, arguments.image_size, arguments.image_size, 3)
    images = [rng.integers(0, 256, size).astype("uint8") for _ in classes]
    labels = [
        np.eye(k, dtype="float32")[rng.integers(0, k, arguments.batch_size)]
        for k in classes
    ]
    if arguments.worker == "authors":
        images = [image.astype("float32") / 255 for image in images]
    return images, labels


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
        ("step s", lambda r: f"{r['step_s']:.3f}"),
        ("train pairs/s", lambda r: f"{batch / r['step_s']:.1f}"),
        ("predict pairs/s", lambda r: f"{batch / r['predict_s']:.1f}"),
        ("peak GiB", lambda r: f"{r['peak_memory_gib']:.2f}"),
    )
    print("| network | " + " | ".join(title for title, _ in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, result in results.items():
        cells = [show(result) for _, show in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    ours, plain = results[arguments.preset], results["plain"]
    ratios = {
        "training step, against plain": ours["step_s"] / plain["step_s"],
        "multiply-adds, against plain": ours["multiply_adds"] / plain["multiply_adds"],
        "prediction, against plain": ours["predict_s"] / plain["predict_s"],
        "memory, against plain": ours["peak_memory_gib"] / plain["peak_memory_gib"],
    }
    for name in arguments.beside:
        ratios |= {
            f"training step, {name} against ours": results[name]["step_s"]
            / ours["step_s"],
            f"prediction, {name} against ours": results[name]["predict_s"]
            / ours["predict_s"],
        }
    if "authors" in results:
        authors = results["authors"]
        ratios |= {
            "first step, authors' against ours": authors["first_step_s"]
            / ours["first_step_s"],
            "training throughput, ours against authors'": authors["step_s"]
            / ours["step_s"],
            "prediction throughput, ours against authors'": authors["predict_s"]
            / ours["predict_s"],
            "memory, ours against authors'": ours["peak_memory_gib"]
            / authors["peak_memory_gib"],
        }
    print("\n| ratio | |\n|---|---|")
    for name, value in ratios.items():
        print(f"| {name} | {value:.2f} |")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"results": results, "ratios": ratios}, file, indent=2)


if __name__ == "__main__":
    main()
