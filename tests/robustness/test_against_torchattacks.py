"""Attacks as strong as those of torchattacks, where it is installed."""

import keras
import numpy as np
import pytest

from drifa_keras.robustness import APGD, FGSM, PGD, Square

L = keras.layers

# PyTorch beside another backend in one process is not always safe.
if keras.backend.backend() != "torch":
    pytest.skip("needs the PyTorch backend", allow_module_level=True)
torchattacks = pytest.importorskip("torchattacks")

import torch  # noqa: E402

EPS = 3 / 255
PAIRS = {
    "FGSM": (FGSM(), lambda net: torchattacks.FGSM(net, eps=EPS)),
    "PGD": (
        PGD(20),
        lambda net: torchattacks.PGD(net, eps=EPS, alpha=EPS / 8, steps=20),
    ),
    "APGD-CE": (
        APGD("ce", 30),
        lambda net: torchattacks.APGD(net, eps=EPS, steps=30, loss="ce"),
    ),
    "APGD-DLR": (
        APGD("dlr", 30),
        lambda net: torchattacks.APGD(net, eps=EPS, steps=30, loss="dlr"),
    ),
    "Square": (
        Square(1000),
        lambda net: torchattacks.Square(net, eps=EPS, n_queries=1000),
    ),
}


class Unit(torch.nn.Module):
    """The same classifier as torchattacks takes it: channels first, pixels 0 to 1."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.permute(0, 2, 3, 1) * 255)


@pytest.fixture(scope="module")
def trained():
    """A network of seconds on four noisy patterns, and 500 images it has not seen."""
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    patterns = 14 * generator.standard_normal((4, 16, 16, 3))
    y = generator.integers(0, 4, 2000)
    x = 128 + patterns[y] + 40 * generator.standard_normal((2000, 16, 16, 3))
    x = np.clip(x, 0, 255).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3), name="image"),
            L.Rescaling(1 / 255),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.AveragePooling2D(2),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.Flatten(),
            L.Dense(4),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x[:1500], y[:1500], epochs=4, verbose=0)
    return model, x[1500:], y[1500:]


@pytest.mark.parametrize("name", PAIRS)
def test_robust_accuracy(trained, name):
    """Ours may be lower, which is stronger; higher by a point of a hundred at most."""
    model, x, y = trained

    def accuracy(images):
        return np.mean(model.predict(images, verbose=0).argmax(axis=1) == y)

    ours, theirs = PAIRS[name]
    ours = accuracy(ours(model, x, y, EPS, batch_size=100))
    network = Unit(model).eval()
    images = torch.as_tensor(x / 255).permute(0, 3, 1, 2).contiguous()
    theirs = theirs(network)(images, torch.as_tensor(y)).detach()
    theirs = theirs.permute(0, 2, 3, 1).numpy() * 255
    # The attack has bitten, and has left something.
    clean = accuracy(x)
    assert 0.1 < accuracy(theirs) < clean - 0.05
    assert ours <= accuracy(theirs) + 0.01
