"""The `drifa` command.

It stands beside the package, not in it: importing `drifa_keras` imports Keras, and
with that the backend is chosen. This module chooses it first, and answers `--help`
without either.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import re
import signal
import sys
import tempfile
import time
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

BACKENDS = ("tensorflow", "jax", "torch")

app = typer.Typer(
    name="drifa",
    help="Multimodal, multi-task medical image models for Keras 3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()

Out = Annotated[
    Path | None,
    typer.Option(
        help="Run folder to make, or to go on with if its training was interrupted. "
        "Default: runs/<name>, numbered if taken."
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(help="Run folder, of one network or several.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the data sets, if it has moved."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of weights and batches.")]
Epochs = Annotated[int | None, typer.Option(help="Number of epochs.", min=1)]


def main() -> None:
    """Runs the command; what the user did wrong ends in one line and exit code 1.

    SIGTERM, which SLURM, Kubernetes and Kaggle send before they kill, ends it like
    Ctrl-C: between two steps, with files that are whole.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.argv[1:] = choose_backend(sys.argv[1:])
        app()
    except _Terminated:
        _fail("Stopped by SIGTERM. What was saved stays.", code=143)
    except OSError as error:
        _fail(_REMEDIES.get(error.errno, "{}").format(error))
    except (ValueError, ImportError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail("Interrupted.", code=130)
    except Exception as error:
        # A reader's message travels through a tf.data thread as a TensorFlow error.
        found = re.search(r"ValueError: (.+)", str(error))
        if type(error).__module__.startswith("tensorflow") and found:
            _fail(found.group(1))
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


_GO_ON = "What was saved stays: the same command goes on with it."
_REMEDIES = {
    errno.ENOSPC: f"{{}}. Free some space on the disk. {_GO_ON}",
    errno.EDQUOT: f"{{}}. Free some of your space on the disk. {_GO_ON}",
    errno.EROFS: f"{{}}. Make the disk writable again. {_GO_ON}",
}


class _Terminated(BaseException):
    """SIGTERM. Typer makes an exit of its own of a `KeyboardInterrupt`."""


def _terminate(number, frame):
    raise _Terminated


def choose_backend(arguments: list[str]) -> list[str]:
    """Sets KERAS_BACKEND and returns the arguments without `--backend`.

    The option counts wherever it stands. Without it, the backend that Keras is
    configured for is taken, or else whichever is installed.
    """
    rest, wanted = [], None
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--backend":
            position += 1
            wanted = arguments[position] if position < len(arguments) else ""
        elif argument.startswith("--backend="):
            wanted = argument.partition("=")[2]
        else:
            rest.append(argument)
        position += 1
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if wanted is None:
        configured = os.environ.get("KERAS_BACKEND") or _configured_backend()
        if configured in installed or "KERAS_BACKEND" in os.environ:
            wanted = configured
        elif installed:
            wanted = installed[0]
        else:
            return rest  # `--help` and `--version` work without a backend
    if wanted not in BACKENDS:
        raise ValueError(
            f"--backend must be one of {', '.join(BACKENDS)}. Received: {wanted!r}."
        )
    if wanted not in installed:
        raise ValueError(
            f"The backend {wanted!r} is not installed. Installed: "
            f"{', '.join(installed) or 'none'}. Try pip install "
            f'"drifa_keras[{wanted}]".'
        )
    os.environ["KERAS_BACKEND"] = wanted
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return rest


data_app = typer.Typer(
    help="Data sets: what there is, fetching, and the leakage audit.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")


def _show_version(wanted: bool):
    if wanted:
        print(f"drifa_keras {metadata.version('drifa_keras')}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Show the version and exit.",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="tensorflow, jax or torch; counts wherever it stands. Default: the "
            "one that Keras is configured for, else whichever is installed."
        ),
    ] = None,
):
    pass


@app.command()
def demo(out: Out = None, epochs: Epochs = None):
    """Train and score a small DRIFA-Net on images that the package makes itself.

    The same as `drifa train phantoms`; about two minutes on two CPU cores.
    """
    train("phantoms", out=out, epochs=epochs)


@app.command("train")
def _train(
    config: Annotated[
        str, typer.Argument(help="Name of a configuration, or path of a YAML file.")
    ],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that holds the data sets.")
    ] = None,
    out: Out = None,
    seed: Seed = None,
    epochs: Epochs = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset of the network; see `drifa models`.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Dtype policy, such as mixed_bfloat16.")
    ] = None,
    distribute: Annotated[
        bool, typer.Option(help="Share each batch among all devices of the machine.")
    ] = False,
    splits: Annotated[
        Path | None,
        typer.Option(help="Split as another run did: its splits.json."),
    ] = None,
    allow_leakage: Annotated[
        bool,
        typer.Option(
            help="Train also where groups or identical images straddle the splits; "
            "the run says so."
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other setting, such as model.arguments.mfa=false. Repeatable.",
        ),
    ] = None,
    members: Annotated[
        int,
        typer.Option(
            help="Train an ensemble of so many networks, each with its own seed.",
            min=1,
        ),
    ] = 1,
    baselines: Annotated[
        bool, typer.Option(help="Also score the trivial baselines.")
    ] = False,
):
    """Train the network of a configuration and score it on the test split."""
    train(
        config,
        data_root=data_root,
        out=out,
        seed=seed,
        epochs=epochs,
        preset=preset,
        dtype=dtype,
        distribute=distribute,
        splits=splits,
        allow_leakage=allow_leakage,
        settings=settings,
        members=members,
        baselines=baselines,
    )


def train(
    config,
    data_root=None,
    out=None,
    seed=None,
    epochs=None,
    preset=None,
    dtype=None,
    distribute=False,
    splits=None,
    allow_leakage=False,
    settings=None,
    members=1,
    baselines=False,
):
    """Trains, evaluates and prints; see `drifa train --help`."""
    _start_backend()
    from drifa_keras.configs import load_config
    from drifa_keras.evaluation import evaluate
    from drifa_keras.training import train as train_run
    from drifa_keras.training import train_ensemble

    flags = {
        "data.root": None if data_root is None else str(data_root),
        "data.split_file": None if splits is None else str(splits),
        "data.allow_leakage": allow_leakage or None,
        "seed": seed,
        "training.epochs": epochs,
        "training.distribute": distribute or None,
        "training.dtype": dtype,
        "model.preset": preset,
    }
    overrides = {key: value for key, value in flags.items() if value is not None}
    loaded = load_config(config, {**overrides, **_parse_settings(settings or [])})
    folder = out or _free_folder(Path("runs") / loaded.name)
    # Without a terminal, a bar that rewrites its line would fill a log file.
    verbose = 1 if sys.stdout.isatty() else 2
    console.print(
        f"The run folder is {folder}. If this is interrupted, the same command with "
        f"--out {folder} goes on.",
        soft_wrap=True,
    )
    if members > 1:
        run = train_ensemble(loaded, folder, members, verbose=verbose)
    else:
        run = train_run(loaded, folder, verbose=verbose)
    report = evaluate(run, baselines=baselines)
    _print_report(report)
    _print_files(run)


@app.command("ablate")
@app.command("compare")
def _compare(
    config: Annotated[
        str, typer.Argument(help="Name of an experiment, or path of a YAML file.")
    ],
    data_root: DataRoot = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of all its runs; experiments may share one. Default: "
            "runs/<name>."
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="This data set only. Repeatable.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Train this network only. Repeatable.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Train with this seed only. Repeatable.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of every training, such as training.epochs=1. Repeatable.",
        ),
    ] = None,
    train: Annotated[
        bool, typer.Option(help="Train what is left; else the table of what is there.")
    ] = True,
    timed: Annotated[
        bool,
        typer.Option("--time", help="Time a step of every network, all in turns."),
    ] = False,
    figures: Annotated[
        bool,
        typer.Option(help="Draw Grad-CAM and t-SNE of the same images, by network."),
    ] = False,
):
    """Train networks on data sets with several seeds, and put them in one table.

    `compare` and `ablate` are the same command: what is compared is for the experiment
    to say. What is done is kept: an interrupted command goes on where it stopped.
    """
    _start_backend()
    from drifa_keras import experiments
    from drifa_keras.configs import load_experiment

    experiment = load_experiment(config)
    wanted = {
        "--dataset": (dataset, list(experiment.datasets)),
        "--model": (model, list(experiment.models)),
        "--seed": (seed, experiment.seeds),
    }
    for option, (chosen, known) in wanted.items():
        unknown = [name for name in chosen or () if name not in known]
        if unknown:
            raise ValueError(f"{option} must be one of {known}. Got {unknown[0]!r}.")
    overrides = _parse_settings(settings or [])
    if data_root is not None:
        overrides["data.root"] = str(data_root)
    folder = out or Path("runs") / experiment.name
    cells = experiments.cells(experiment, folder, overrides)
    of_datasets = [cell for cell in cells if not dataset or cell.dataset in dataset]
    if train:
        chosen = [
            cell
            for cell in of_datasets
            if (not model or cell.model in model) and (not seed or cell.seed in seed)
        ]
        with _progress("trainings") as progress:
            experiments.compare(chosen, experiment.missing, progress)
    if timed:
        experiments.write_steps(experiment, experiments.time_steps(of_datasets), folder)
    outcomes = experiments.read_outcomes(cells)
    changed = [f"--set {entry}" for entry in settings or ()]
    command = " ".join(["drifa compare", str(config), *changed])
    written = experiments.write_tables(experiment, outcomes, folder, command)
    print(written["md"].read_text(encoding="utf-8"))
    paths = [*written.values()]
    if figures:
        paths += experiments.draw_figures(experiment, outcomes, folder)
    for path in paths:
        console.print(f"  {path}", soft_wrap=True)
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    if failed:
        raise ValueError(f"{failed} of {len(outcomes)} trainings failed; see above.")


@app.command("evaluate")
def _evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    baselines: Annotated[
        bool, typer.Option(help="Also score the trivial baselines.")
    ] = False,
    missing: Annotated[
        bool, typer.Option(help="Also score it without each modality in turn.")
    ] = False,
    data_root: DataRoot = None,
):
    """Score the model of a run on its test split, each image once."""
    _start_backend()
    from drifa_keras.evaluation import evaluate
    from drifa_keras.runs import Run

    opened = Run.open(run)
    report = evaluate(opened, baselines=baselines, missing=missing, data_root=data_root)
    _print_report(report)
    _print_files(opened)


@app.command("uncertainty")
def _uncertainty(
    run: RunFolder,
    passes: Annotated[
        int, typer.Option(help="Passes of every network, with dropout on.", min=1)
    ] = 20,
    alpha: Annotated[
        float, typer.Option(help="Share of the prediction sets that may be wrong.")
    ] = 0.1,
    target_risk: Annotated[
        float, typer.Option(help="Share of wrong answers allowed when abstaining.")
    ] = 0.05,
    data_root: DataRoot = None,
):
    """Measure how far the predictions of a run can be trusted, on its test split."""
    _start_backend()
    from drifa_keras.evaluation import evaluate_uncertainty
    from drifa_keras.report.uncertainty import uncertainty_figures
    from drifa_keras.runs import Run

    opened = Run.open(run)
    report = evaluate_uncertainty(
        opened, passes, alpha=alpha, target_risk=target_risk, data_root=data_root
    )
    _print_uncertainty(report)
    _draw(opened, "uncertainty", report, uncertainty_figures)
    _print_files(opened)


@app.command("explain")
def _explain(
    run: RunFolder,
    cases: Annotated[
        int, typer.Option(help="Cases of each kind: right, wrong, uncertain.", min=1)
    ] = 3,
    method: Annotated[str, typer.Option(help="grad_cam or grad_cam++.")] = "grad_cam",
    data_root: DataRoot = None,
):
    """Show where a network looks (Grad-CAM) and how it arranges the test images."""
    _start_backend()
    from drifa_keras.evaluation import explain_run
    from drifa_keras.report.explain import explain_figures
    from drifa_keras.runs import Run

    opened = Run.open(run)
    report = explain_run(opened, cases, method=method, data_root=data_root)
    for task, found in report["tasks"].items():
        for name, effect in found.get("effects", {}).items():
            console.print(
                f"{task}: another {name} image in its place changes "
                f"{effect['flipped']:.1%} of the answers."
            )
    _draw(opened, "explain", report, explain_figures)
    _print_files(opened)


@app.command("attack")
def _attack(
    run: RunFolder,
    eps: Annotated[
        str, typer.Option(help="Largest changes of a pixel, as shares of its range.")
    ] = "1/255,2/255,4/255,8/255",
    images: Annotated[int, typer.Option(help="Number of test cases.", min=1)] = 200,
    protocol: Annotated[
        str, typer.Option(help="light, or full: all attacks, with restarts; hours.")
    ] = "light",
    attacks: Annotated[
        str | None,
        typer.Option(
            help="Which attacks of the protocol, such as PGD-20,APGD-CE-100; all by "
            "default."
        ),
    ] = None,
    draws: Annotated[
        str,
        typer.Option(
            help="Draws behind a gradient of a random network: the first attack takes "
            "each, the others the most."
        ),
    ] = "1,5,10",
    votes: Annotated[
        int, typer.Option(help="Draws behind an answer of a random network.", min=1)
    ] = 10,
    each_task: Annotated[
        bool, typer.Option(help="Also attack every task by itself.")
    ] = False,
    each_modality: Annotated[
        bool, typer.Option(help="Also change every modality by itself.")
    ] = False,
    checks: Annotated[
        bool, typer.Option(help="Look for signs that attacks fail for other reasons.")
    ] = True,
    transfer: Annotated[
        Path | None,
        typer.Option(help="Another run, whose network makes images to try on this."),
    ] = None,
    data_root: DataRoot = None,
):
    """Attack a run, and look for signs that attacks fail for the wrong reason.

    What is done is kept: an interrupted command goes on where it stopped.
    """
    _start_backend()
    from drifa_keras.evaluation import attack_run
    from drifa_keras.report.robustness import robustness_figures
    from drifa_keras.runs import Run

    opened = Run.open(run)
    sizes = [_fraction("--eps", part) for part in eps.split(",")]
    counts = [_whole("--draws", part) for part in draws.split(",")]
    with _progress("attacks") as progress:
        report = attack_run(
            opened,
            sizes,
            images=images,
            protocol=protocol,
            attacks=None if attacks is None else attacks.split(","),
            draws=counts,
            votes=votes,
            each_task=each_task,
            each_modality=each_modality,
            checks=checks,
            surrogate=None if transfer is None else Run.open(transfer),
            data_root=data_root,
            progress=progress,
        )
    _print_robustness(report)
    _draw(opened, "robustness", report, robustness_figures)
    _print_files(opened)


@app.command("export")
def _export(
    run: RunFolder,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="tf_saved_model (TensorFlow, JAX), onnx, litert (TensorFlow), torch.",
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder to make. Default: RUN/export/..."),
    ] = None,
    quantize: Annotated[
        bool, typer.Option(help="Store weights as 8-bit integers (litert).")
    ] = False,
    images: Annotated[
        int, typer.Option(help="Test cases to compare with the network on.", min=0)
    ] = 100,
    data_root: DataRoot = None,
):
    """Export a run for a runtime that needs neither Keras nor this package.

    The file takes pixels 0..255 by modality and gives probabilities by task.
    """
    _start_backend()
    from drifa_keras.evaluation import export_run
    from drifa_keras.runs import Run

    report = export_run(Run.open(run), form, out, quantize, images, data_root)
    for task, found in report["tasks"].items():
        accuracies = ""
        if "accuracy" in found:
            accuracies = (
                f"; accuracy {found['accuracy']:.3f}, exported "
                f"{found['exported_accuracy']:.3f}"
            )
        console.print(
            f"{task}: {found['equal_answers']:.1%} of the answers are equal, "
            f"probabilities differ by at most {found['difference']:.1e} "
            f"({report['images']} test cases){accuracies}",
            soft_wrap=True,
        )
    if not report["tasks"]:
        console.print("Not compared with the network.")
    console.print(
        f"{report['path']}, {report['bytes'] / 2**20:.1f} MiB", soft_wrap=True
    )


@app.command("report")
def _report(
    run: RunFolder,
):
    """Write what is known of a run into one HTML file that needs no network."""
    _start_backend()
    from drifa_keras.report import write_report
    from drifa_keras.runs import Run

    path = write_report(Run.open(run))
    console.print(f"The report is {path}", soft_wrap=True)


@app.command("predict")
def _predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    image: Annotated[
        list[str],
        typer.Option(
            metavar="MODALITY=FILE",
            help="An image of one modality; repeat for others. Modalities may be "
            "missing.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the label map of volumes goes: .nii or .nii.gz."),
    ] = None,
):
    """Predict every task for one case; segment NIfTI volumes."""
    _start_backend()
    from drifa_keras import predict
    from drifa_keras.data import read_image
    from drifa_keras.runs import Run

    opened = Run.open(run)
    model = opened.load_model()
    files = _files_by_modality(image, model)
    volumes = [str(path).endswith((".nii", ".nii.gz")) for path in files.values()]
    if any(volumes):
        if not all(volumes) or not getattr(model, "maps", ()):
            raise ValueError(
                "NIfTI volumes are for networks that classify every pixel, and for all "
                f"modalities alike. Received: {', '.join(image)}."
            )
        _segment(opened, model, files, out, as_json)
        return
    images = {}
    for name, path in files.items():
        height, width, channels = model.modalities[name]
        images[name] = read_image(path, (height, width), channels)[None]
    predictions = {
        task: _by_class(opened.class_names[task], probabilities[0])
        for task, probabilities in predict(model, images).items()
    }
    if as_json:
        print(json.dumps(predictions, indent=2))
        return
    table = Table(title="Not for clinical use")
    for column in ("task", "class", "probability"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for task, classes in predictions.items():
        for name, value in sorted(classes.items(), key=lambda item: -item[1]):
            table.add_row(task, name, f"{value:.3f}")
            task = ""
        table.add_section()
    console.print(table)
    _print_missing(model, files)


def _files_by_modality(entries, model):
    files = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals or not path or name not in model.modalities:
            raise ValueError(
                f"--image takes MODALITY=FILE with a modality of "
                f"{list(model.modalities)}. Received: {entry!r}."
            )
        if name in files:
            raise ValueError(f"--image names the modality {name!r} twice.")
        files[name] = path
    return files


def _by_class(names, probabilities):
    """Probabilities by class; where every pixel is classified, shares of the image."""
    import numpy as np

    if probabilities.ndim > 1:
        answers = probabilities.argmax(axis=-1)
        probabilities = (
            np.bincount(answers.ravel(), minlength=len(names)) / answers.size
        )
    return dict(zip(names, map(float, probabilities), strict=True))


def _segment(run, model, files, out, as_json):
    """Writes the label map of a volume, and prints how large its regions are."""
    from drifa_keras.data import volumes
    from drifa_keras.evaluation import segment_volume

    found = segment_volume(model, files)
    (task,) = model.maps
    names = run.class_names[task]
    brats = names == volumes.CLASSES
    regions = volumes.class_regions() if brats else {}
    regions |= {name: (label,) for label, name in enumerate(names) if label}
    sizes = {name: found.millilitres(classes) for name, classes in regions.items()}
    if out is not None:
        found.save(out, volumes.LABELS if brats else None)
    if as_json:
        print(json.dumps({"millilitres": sizes}, indent=2))
        return
    table = Table(title="Not for clinical use")
    table.add_column(task)
    table.add_column("millilitres", justify="right")
    for name, size in sizes.items():
        table.add_row(name, f"{size:.1f}")
    console.print(table)
    if out is not None:
        console.print(f"The label map is {out}", soft_wrap=True)
    _print_missing(model, files)


def _print_missing(model, files):
    missing = sorted(set(model.modalities) - set(files))
    if missing:
        console.print(f"Without: {', '.join(missing)}")


@app.command("models")
def _models(
    image_size: Annotated[
        int, typer.Option(help="Side of the images in pixels.")
    ] = 128,
):
    """List the presets with their parameters and multiply-adds."""
    _start_backend()
    from drifa_keras.models import cost, preset_class, presets

    table = Table(
        title=f"For two {image_size}x{image_size}x3 images and heads of 5 and 7 classes"
    )
    table.add_column("preset", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("multiply-adds", justify="right", no_wrap=True)
    table.add_column("what")
    shape = (image_size, image_size, 3)
    for name, description in presets().items():
        try:
            model = preset_class(name).from_preset(
                name, {"first": shape, "second": shape}, {"first": 5, "second": 7}
            )
        except ValueError:  # Inception-v3 takes no image under 75 px
            table.add_row(name, "-", "-", f"{description} Not at this size.")
            continue
        counted = cost(model)
        table.add_row(
            name,
            f"{counted.parameters:,}",
            f"{counted.multiply_adds / 1e9:.3f} G",
            description,
        )
    console.print(table)


@data_app.command("list")
def _data_list(
    root: Annotated[
        Path, typer.Option(help="Folder in which to look for the data sets.")
    ] = Path("."),
):
    """List the data sets that have a reader, and which are there."""
    _start_backend()
    from drifa_keras.data import DATASETS

    table = Table(title=f"Data sets, and whether they are in {root}")
    table.add_column("name", no_wrap=True)
    table.add_column("modality, task (classes)")
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("there", no_wrap=True)
    for name, dataset in DATASETS.items():
        table.add_row(
            name,
            f"{dataset.modality}, {dataset.task} ({len(dataset.classes)})",
            f"{dataset.images:,}",
            dataset.licence,
            "yes" if dataset.present(root) else "-",
        )
    console.print(table)
    print("To cite: drifa_keras.data.DATASETS[name].citation")


@data_app.command("fetch")
def _data_fetch(
    name: Annotated[str, typer.Argument(help="Name of a data set; see `data list`.")],
    size: Annotated[
        int, typer.Option(help="Side of the images: 28, 64, 128 or 224; MedMNIST only.")
    ] = 28,
):
    """Download a data set through kagglehub or medmnist (extra `fetch`)."""
    _start_backend()
    from drifa_keras.data.fetch import fetch

    folder = fetch(name, size=size)
    console.print(f"{name} is in {folder}", soft_wrap=True)


@data_app.command("audit")
def _data_audit(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_DIR",
            help="Name of a data set, or a folder <dir>/<class>/* of images.",
        ),
    ],
    root: Annotated[Path, typer.Option(help="Folder that holds the data sets.")] = Path(
        "."
    ),
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for audit.json and the sheets of the worst pairs."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="Which images, of several; the first by default.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Whose labels; the first task by default.")
    ] = None,
):
    """Audit a data set for duplicates, straddling groups, confounds, easy splits."""
    _start_backend()
    from drifa_keras.data import DATASETS, read
    from drifa_keras.data.leakage import audit, contact_sheet

    if name in DATASETS:
        source = DATASETS[name].read(root)
    elif Path(name).is_dir():
        source = read("image_folder", name)
    else:
        raise ValueError(
            f"{name!r} is neither a folder nor one of {', '.join(sorted(DATASETS))}."
        )
    modality = modality or next(iter(source.modalities))
    task = task or next(iter(source.targets))
    result = audit(source, modality=modality, task=task)
    table = Table(title=f"Audit of {source.name}, {modality}, {task}")
    for column in ("", "what", "value"):
        table.add_column(column)
    section = None
    for row in result.table():
        if section not in (None, row[0]):
            table.add_section()
        table.add_row("" if row[0] == section else row[0], *row[1:])
        section = row[0]
    console.print(table)
    folder = out or _free_folder(Path("runs") / f"audit-{source.name}")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists already. Choose another with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_dict(), indent=2)
    (folder / "audit.json").write_text(text + "\n", encoding="utf-8")
    for kind, pairs in result.worst.items():
        if pairs:
            sheet = contact_sheet(pairs, source.modalities[modality], names=source.ids)
            sheet.save(folder / f"{kind}.png")
    console.print(f"The figures and sheets of pairs are in {folder}", soft_wrap=True)


def _start_backend():
    """Imports the package, without what TensorFlow's C++ code says on being loaded."""
    if "KERAS_BACKEND" not in os.environ:
        raise ValueError(
            "No backend is installed. Install one with pip install "
            '"drifa_keras[tensorflow]" (or jax, torch).'
        )
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import drifa_keras

            drifa_keras.data  # noqa: B018
            if importlib.util.find_spec("tensorflow"):
                import tensorflow

                # Several networks in one process are no mistake.
                tensorflow.get_logger().setLevel("ERROR")
        except BaseException:
            os.dup2(stderr, 2)
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def _progress(what):
    """Shows how far a long command is: a bar, or lines where there is no terminal.

    Yields a function of the number of parts that are over, the number of all, and the
    name of the one that begins.
    """
    from rich.progress import (
        MofNCompleteColumn,
        Progress,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        *Progress.get_default_columns()[:2],
        *(MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
    ]
    started = time.monotonic()
    # The time left follows from all parts so far; they take minutes each.
    with Progress(*columns, console=console, speed_estimate_period=1e9) as bar:
        task = bar.add_task(what)

        def progress(done, count, name):
            bar.update(task, completed=done, total=count, description=name[:40] or what)
            if name and not console.is_terminal:
                left = ""
                if done:
                    seconds = (time.monotonic() - started) / done * (count - done)
                    left = f", about {timedelta(seconds=round(seconds))} left"
                console.print(f"{done + 1}/{count} {name}{left}", soft_wrap=True)

        yield progress


def _configured_backend():
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return json.loads((home / "keras.json").read_text()).get("backend")
    except (OSError, ValueError, AttributeError):
        return None


def _parse_settings(settings):
    import yaml

    parsed = {}
    for entry in settings:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes KEY=VALUE. Received: {entry!r}.")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {entry!r}: the value is not YAML.") from error
    return parsed


def _free_folder(folder):
    number = 2
    free = folder
    while free.exists():
        free = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return free


def _print_report(report):
    tasks = report["tasks"]
    table = Table(title="Test split, each image once (95 % interval)")
    table.add_column("")
    for task, result in tasks.items():
        table.add_column(f"{task}\n{result['images']} images", justify="right")
    metrics = {task: result.get("metrics", {}) for task, result in tasks.items()}
    for name in next(iter(metrics.values()), {}):
        cells = [_cell(of_task.get(name)) for of_task in metrics.values()]
        table.add_row(name.replace("_", " "), *cells)
    others = {
        f"{what} {name.replace('_', ' ')}": results
        for key, what in (("baselines", "baseline:"), ("missing", "without"))
        for name, results in report.get(key, {}).items()
    }
    for other, results in others.items():
        table.add_section()
        table.add_row(other)
        found = [results.get(task, {}).get("metrics", {}) for task in tasks]
        for name in ("dice", "accuracy", "balanced_accuracy"):
            if not any(name in of_task for of_task in found):
                continue
            cells = [_cell(of_task.get(name)) for of_task in found]
            table.add_row(f"  {name.replace('_', ' ')}", *cells)
    console.print(table)
    draws = max((result.get("draws", 1) for result in tasks.values()), default=1)
    if draws > 1:
        spreads = ", ".join(
            f"{task} {of_task['accuracy']['spread']:.4f}"
            for task, of_task in metrics.items()
            if of_task.get("accuracy")
        )
        console.print(
            f"Means over {draws} draws of partners; standard deviation of the accuracy "
            f"over them: {spreads}."
        )
    for leak in report.get("leakage", []):
        console.print(f"These figures are too high. {leak}")
    for task, result in tasks.items():
        for note in result.get("notes", []):
            console.print(f"{task}: {note}")


def _draw(run, name, report, figures):
    """Writes the figures of a report and its arrays as PNG files."""
    import numpy as np

    from drifa_keras.report import to_png

    folder = run.folder / "figures"
    folder.mkdir(exist_ok=True)
    with np.load(run.folder / f"{name}.npz") as arrays:
        drawn = figures(report, dict(arrays))
    for title, figure in drawn.items():
        (folder / f"{title}.png").write_bytes(to_png(figure))


def _fraction(option, text):
    from drifa_keras.configs.schema import as_share

    value = as_share(text.strip())
    if not isinstance(value, float):
        raise ValueError(
            f"{option} takes numbers or fractions with commas between them. Received: "
            f"{text!r}."
        )
    return value


def _whole(option, text):
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"{option} takes whole numbers with commas between them. Received: "
            f"{text!r}."
        ) from None


def _print_robustness(report):
    trained = report["trained"]
    how = "clean images"
    if trained:
        how = f"PGD-{trained['steps']}, eps {trained['eps'] * 255:g}/255"
    table = Table(
        title=f"Accuracy under attack: {report['images']} test cases, trained on {how}"
    )
    table.add_column("eps")
    tasks = report["tasks"]
    for task, found in tasks.items():
        table.add_column(f"{task}\n{found['images']} images", justify="right")
    table.add_row("0", *(_cell(found["clean"]) for found in tasks.values()))
    for row, size in enumerate(report["eps"]):
        cells = [_cell(found["union"][row]["accuracy"]) for found in tasks.values()]
        table.add_row(f"{size * 255:g}/255", *cells)
    console.print(table)
    console.print("What survives every attack of at most that size.")
    for task, found in tasks.items():
        if found["images"]:
            console.print(
                f"{task}: whoever always answers the most frequent class is right in "
                f"{found['majority']:.3f}, under any attack."
            )
    for check in report["checks"]:
        if check["holds"] is False:
            console.print(
                f"{check['task']}: the check {check['check']!r} fails "
                f"({check['value']:+.3f}): attacks may fail for reasons of their own, "
                "and the accuracies above are too high."
            )


def _print_uncertainty(report):
    from drifa_keras.evaluation import METRICS

    columns = ("accuracy", "precision", "recall", "f1", "ece", "nll", "aurc")
    for task, result in report["tasks"].items():
        if not result["images"]:
            console.print(f"{task}: {result['notes'][0]}")
            continue
        if "regions" in result:
            _print_map_uncertainty(task, result)
            continue
        table = Table(
            title=f"{task}: {result['images']} test images, {result['members']} "
            f"network(s), {result['passes']} passes with dropout"
        )
        table.add_column("dropout\ntemperature")
        for row in result["table"]:
            state = "on" if row["uq"] else "off"
            table.add_column(f"{state}\n{row['temperature']:.2f}", justify="right")
        for name in columns:
            cells = [f"{row[name]:.3f}" for row in result["table"]]
            table.add_row(name if name in METRICS else name.upper(), *cells)
        console.print(table)
        selective = result["selective"]
        console.print(
            f"Answering the surest {selective['coverage']:.0%} keeps at most "
            f"{selective['target_risk']:.0%} of the answers wrong."
        )
        if result["conformal"]:
            methods = result["conformal"]["methods"].items()
            sets = ", ".join(
                f"{name} {found['coverage']:.3f} ({found['set_size']:.2f} classes)"
                for name, found in methods
            )
            share = 1 - result["conformal"]["alpha"]
            console.print(f"Prediction sets promised to hold {share:.0%}: {sets}.")
        for note in result["notes"]:
            console.print(f"{task}: {note}")
    for leak in report.get("leakage", []):
        console.print(f"These figures are too good. {leak}")


def _print_map_uncertainty(task, result):
    table = Table(
        title=f"{task}: every pixel of {result['images']} test slices, "
        f"{result['passes']} passes with dropout"
    )
    table.add_column("dropout")
    for row in result["table"]:
        table.add_column("on" if row["uq"] else "off", justify="right")
    for name in result["table"][0]["metrics"]:
        cells = [_cell(row["metrics"][name]) for row in result["table"]]
        table.add_row(name.replace("_", " "), *cells)
    for name, title in (("ece", "ECE"), ("nll", "NLL"), ("brier", "Brier score")):
        table.add_row(
            f"{title} of pixels",
            *(f"{row[name]:.3f}" for row in result["table"]),
        )
    console.print(table)
    if result["auroc"] is not None:
        console.print(
            f"The entropy of a pixel finds the wrong ones with an AUROC of "
            f"{result['auroc']:.3f}."
        )
    if result["slices"] is not None:
        console.print(
            "Rank correlation of the mean entropy of a slice with its Dice: "
            f"{result['slices']:.2f}."
        )
    for note in result["notes"]:
        console.print(f"{task}: {note}")


def _cell(metric):
    if metric is None or metric["value"] is None:
        return "-"
    text = f"{metric['value']:.3f}"
    if metric["interval"]:
        low, high = metric["interval"]
        text += f" ({low:.3f} to {high:.3f})"
    return text


def _print_files(run):
    what = {
        "model.keras": "the best epoch; keras.models.load_model reads it",
        "ensemble.json": "the members of the ensemble, each a run of its own",
        "metrics.json": "all metrics with intervals",
        "uncertainty.json": "calibration, prediction sets, selective prediction",
        "uncertainty.npz": "the uncertainty of every test image",
        "explain.json": "what was looked at, and what each modality changes",
        "robustness.json": "accuracy under attack, and checks of the attacks",
        "attacks.npz": "the outcome of every attack, to go on from",
        "report.html": "everything on one page, for a browser",
        "figures": "the figures, as PNG",
        "predictions.npz": "the prediction of every test image",
        "history.csv": "loss and accuracy of each epoch",
        "splits.json": "which image is in which split",
        "config.yaml": "everything that was set, with versions",
    }
    console.print(f"\nThe run is in {run.folder}", soft_wrap=True)
    for name, meaning in what.items():
        if (run.folder / name).exists():
            console.print(f"  {name:<16} {meaning}")


def _fail(message, code=1):
    first_line = " ".join(message.split())
    print(f"drifa: {first_line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
