"""How much the gates of MFA and MIFA depend on the image.

    python benchmarks/gate_spread.py runs/ham10000_sipakmed_small

For each attention layer of a run's network, over up to 256 test images: the mean of
its gate, its standard deviation over channels, and its standard deviation over images
(mean over channels). A gate that is the same for every image is a constant factor
that the next batch normalisation takes back. `--fresh` shows the same network before
training.
"""

import argparse

import keras
from keras import ops

import drifa_keras as dk
from drifa_keras.data import Split
from drifa_keras.runs import Run, load_images, read_sources
from drifa_keras.training.train import build_model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run folder")
    parser.add_argument("--fresh", action="store_true", help="before training")
    parser.add_argument("--images", type=int, default=256)
    arguments = parser.parse_args()

    run = Run.open(arguments.run)
    pairing = read_sources(run.config)
    saved = run.read_json("splits.json")
    test = [Split.from_json(saved[s.name], s).test for s in pairing.sources]
    count = min(arguments.images, *(len(rows) for rows in test))
    pairing = pairing.take([rows[:count] for rows in test])
    pairing = load_images(pairing, run.config, progress=False)
    images = {
        name: source.modalities[name]
        for source in pairing.sources
        for name in source.modalities
    }
    if arguments.fresh:
        keras.utils.set_random_seed(run.config.seed)
        model = build_model(run.config, pairing)
    else:
        model = run.load_model()

    print(f"{'layer':<40}{'mean':>8}{'over channels':>16}{'over images':>14}")
    for layer in model.layers:
        if not isinstance(layer, (dk.layers.MFA, dk.layers.MIFA)):
            continue
        streams = layer.input
        if isinstance(layer, dk.layers.MFA):
            maps = keras.Model(model.input, streams).predict(images, verbose=0)
            gate = layer.gate(ops.convert_to_tensor(maps))
        else:
            streams = streams[: len(model.modalities)]
            maps = keras.Model(model.input, streams).predict(images, verbose=0)
            gate = layer.attention([ops.convert_to_tensor(x) for x in maps])
        gate = ops.convert_to_numpy(gate)
        print(
            f"{layer.name:<40}{gate.mean():>8.3f}"
            f"{gate.mean(axis=0).std():>16.4f}{gate.std(axis=0).mean():>14.4f}"
        )


if __name__ == "__main__":
    main()
