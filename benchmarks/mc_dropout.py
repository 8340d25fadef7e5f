"""Monte-Carlo dropout: time against loops over whole passes, and peak memory.

    python benchmarks/mc_dropout.py
    python benchmarks/mc_dropout.py --backend jax --samples 64 4 1

Compared are `uncertainty.predict`; the authors' way, a loop of `predict` for each
task; and a loop of compiled forward passes that serve all tasks. Dropout is on in all
of them. `ideal` is the time that the multiply-adds before the first dropout, and
`passes` times those behind it, take at the rate of plain prediction. All are measured
in turns, round after round, and ratios are taken within a round, so that what else the
machine does weighs on all alike. Ratios of processor time are given beside those of the
clock: on CPUs they hardly depend on what else runs. Memory is measured in a process of
its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time

TASKS = {"skin_lesion": 7, "cervical_cell": 5}
MODALITIES = ("dermoscopy", "pap_smear")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND"))
    parser.add_argument("--preset", default="drifa_resnet18")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 4, 1])
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-passes", type=int, default=1000)
    parser.add_argument("--memory-gib", type=float, default=1.0)
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.backend = arguments.backend or "tensorflow"
    if arguments.worker:
        worker = measure_memory if arguments.worker == "memory" else measure_time
        print(json.dumps(worker(arguments)))
        return
    results = {}
    for name in ("time", "memory"):
        print(f"measuring {name} on {arguments.backend} ...", file=sys.stderr)
        results[name] = run_worker(arguments, name)
    report(arguments, results)


def run_worker(arguments, name):
    command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
    environment = {
        **os.environ,
        "KERAS_BACKEND": arguments.backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def network(arguments):
    import drifa_keras as dk

    shape = (arguments.image_size, arguments.image_size, 3)
    return dk.DRIFANet.from_preset(
        arguments.preset, modalities=dict.fromkeys(MODALITIES, shape), tasks=TASKS
    )


def random_images(arguments, count):
    import numpy as np

    generator = np.random.default_rng(0)
    shape = (count, arguments.image_size, arguments.image_size, 3)
    return {
        name: generator.integers(1, 256, shape).astype("uint8") for name in MODALITIES
    }


def measure_time(arguments):
    from drifa_keras.layers import MCDropout
    from drifa_keras.models import cost
    from drifa_keras.uncertainty._split import split

    model = network(arguments)
    always_on = type(model).from_config(model.get_config())
    for layer in always_on.layers:
        if isinstance(layer, MCDropout):
            layer.always_on = True
    prefix = split(model, [x.shape[1:] for x in model.inputs]).prefix
    share = 1 - cost(prefix).multiply_adds / cost(model).multiply_adds
    ideal = 1 - share + arguments.passes * share
    rounds = {}
    for count in arguments.samples:
        images = random_images(arguments, count)
        rounds[count] = measure_rounds(arguments, model, always_on, images)
        for seconds in rounds[count]:
            seconds["ideal"] = [ideal * value for value in seconds.pop("plain")]
    return {"rounds": rounds, "suffix_share": share}


def measure_rounds(arguments, model, always_on, images):
    from drifa_keras import uncertainty

    passes, size = arguments.passes, arguments.batch_size
    count = len(images[MODALITIES[0]])
    batches = [
        {name: x[start : start + size] for name, x in images.items()}
        for start in range(0, count, size)
    ]

    def ours():
        uncertainty.predict(model, images, passes, batch_size=size, verbose=0)

    def predict():
        always_on.predict(images, batch_size=size, verbose=0)

    def forward(network):
        for batch in batches:
            network.predict_on_batch(batch)

    # What is called, how often in a round, and how often for all passes and tasks.
    ways = {
        "ours": (ours, 1, 1),
        "predict loop": (predict, max(2, passes // 4), passes * len(TASKS)),
        "compiled loop": (lambda: forward(always_on), max(2, passes // 4), passes),
        "plain": (lambda: forward(model), max(2, passes // 4), 1),
    }
    for call, _, _ in ways.values():
        call()  # compiles
    return [
        {
            name: [times * value for value in timed(call, calls)]
            for name, (call, calls, times) in ways.items()
        }
        for _ in range(arguments.rounds)
    ]


def timed(call, repeats):
    """Seconds of the clock and of the processor that a call takes."""
    clocks = (time.perf_counter, time.process_time)
    start = [clock() for clock in clocks]
    for _ in range(repeats):
        call()
    return [
        (clock() - begin) / repeats for clock, begin in zip(clocks, start, strict=True)
    ]


def measure_memory(arguments):
    from drifa_keras import uncertainty

    model, images = network(arguments), random_images(arguments, 2)
    budget = int(arguments.memory_gib * 2**30)
    # Compiles, and lets the libraries take what they keep.
    uncertainty.predict(model, images, 2, max_bytes=1, verbose=0)
    with PeakMemory() as memory:
        uncertainty.predict(
            model,
            images,
            arguments.memory_passes,
            max_bytes=budget,
            batch_size=10**6,
            verbose=0,
        )
    return {"budget_bytes": budget, "peak_bytes": memory.peak - memory.before}


class PeakMemory:
    """The largest resident memory of the process within the context."""

    def __enter__(self):
        self.before = self.peak = self.now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()

    def watch(self):
        while not self.done.wait(0.005):
            self.peak = max(self.peak, self.now())

    @staticmethod
    def now():
        import psutil

        return psutil.Process().memory_info().rss


def report(arguments, results):
    import platform

    print(
        f"\n{arguments.preset}, two {arguments.image_size}x{arguments.image_size}x3, "
        f"{arguments.passes} passes, {len(TASKS)} tasks, batches of "
        f"{arguments.batch_size}, backend {arguments.backend}, {os.cpu_count()} cores, "
        f"{platform.machine()}, Python {platform.python_version()}, load "
        f"{os.getloadavg()[0]:.1f}; {results['time']['suffix_share']:.0%} of the "
        "multiply-adds behind the first dropout\n"
    )
    ratios = (
        ("predict loop / ours", "predict loop", "ours"),
        ("compiled loop / ours", "compiled loop", "ours"),
        ("ours / ideal", "ours", "ideal"),
    )
    titles = " | ".join(name for name, _, _ in ratios)
    for index, clock in enumerate(("the clock", "processor time")):
        print(f"By {clock}, median (least to most):\n\n| samples | ours s | {titles} |")
        print("|---" * (2 + len(ratios)) + "|")
        for count, rounds in results["time"]["rounds"].items():
            cells = [f"{statistics.median(r['ours'][index] for r in rounds):.2f}"]
            for _, over, under in ratios:
                values = [r[over][index] / r[under][index] for r in rounds]
                cells.append(
                    f"{statistics.median(values):.2f} "
                    f"({min(values):.2f} to {max(values):.2f})"
                )
            print(f"| {count} | " + " | ".join(cells) + " |")
        print()
    memory = results["memory"]
    print(
        f"Peak memory at {arguments.memory_passes} passes of 2 samples, batches as "
        f"large as the budget allows: {memory['peak_bytes'] / 2**30:.2f} GiB, "
        f"{memory['peak_bytes'] / memory['budget_bytes']:.2f} of the budget of "
        f"{memory['budget_bytes'] / 2**30:.2f} GiB."
    )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
