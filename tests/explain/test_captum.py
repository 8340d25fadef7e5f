"""The same maps as captum, on a network written in PyTorch, where it is installed."""

import keras
import numpy as np
import pytest

from drifa_keras.explain import grad_cam

L = keras.layers

# PyTorch beside another backend in one process is not always safe.
if keras.backend.backend() != "torch":
    pytest.skip("needs the PyTorch backend", allow_module_level=True)
pytest.importorskip("captum")

import torch  # noqa: E402
from captum.attr import LayerAttribution, LayerGradCam  # noqa: E402

CLASSES = 4


def in_keras():
    """Two residual blocks, and a head that reads every cell."""
    x = inputs = keras.Input((16, 16, 3), name="image")
    for block, strides in enumerate((1, 2)):

        def conv(x, size, role, strides=1):
            name = f"{role}{block}"  # noqa: B023
            x = L.Conv2D(6, size, strides, padding="same", name=name)(x)
            return L.BatchNormalization(name=f"norm_{name}")(x)

        shortcut = conv(x, 1, "shortcut", strides)
        x = L.ReLU()(conv(x, 3, "first"))
        x = conv(x, 1, "second", strides)
        x = L.ReLU(name=f"block{block}")(L.Add()([x, shortcut]))
    x = L.Dense(8, activation="tanh", name="hidden")(L.Flatten()(x))
    return keras.Model(inputs, L.Dense(CLASSES, activation="softmax", name="head")(x))


class InTorch(torch.nn.Module):
    """The same, written down again, with the weights of the Keras model."""

    def __init__(self, model):
        super().__init__()
        self.parts = torch.nn.ModuleDict()
        for block, strides in enumerate((1, 2)):
            for role in ("shortcut", "first", "second"):
                size = 3 if role == "first" else 1
                channels = 6 if block or role == "second" else 3
                strided = 1 if role == "first" else strides
                name = f"{role}{block}"
                conv = torch.nn.Conv2d(channels, 6, size, strided, padding=size // 2)
                kernel, bias = model.get_layer(name).get_weights()
                fill(conv.weight, kernel.transpose(3, 2, 0, 1))
                fill(conv.bias, bias)
                norm = torch.nn.BatchNorm2d(6, eps=1e-3)
                state = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
                weights = model.get_layer(f"norm_{name}").get_weights()
                for parameter, value in zip(state, weights, strict=True):
                    fill(parameter, value)
                self.parts[name] = torch.nn.Sequential(conv, norm)
            self.parts[f"block{block}"] = torch.nn.ReLU()
        for name, units in (("hidden", (384, 8)), ("head", (8, CLASSES))):
            dense = torch.nn.Linear(*units)
            kernel, bias = model.get_layer(name).get_weights()
            fill(dense.weight, kernel.T)
            fill(dense.bias, bias)
            self.parts[name] = dense

    def forward(self, x):
        for block in range(2):
            y = torch.relu(self.parts[f"first{block}"](x))
            y = self.parts[f"second{block}"](y) + self.parts[f"shortcut{block}"](x)
            x = self.parts[f"block{block}"](y)
        x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens channels last
        return self.parts["head"](torch.tanh(self.parts["hidden"](x)))


def fill(parameter, value):
    with torch.no_grad():
        assert parameter.shape == value.shape
        parameter.copy_(torch.as_tensor(value))


@pytest.mark.parametrize("layer", ["block0", "block1", None])
def test_agrees_with_captum(layer):
    model = in_keras()
    generator = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + 0.1 * generator.uniform(-1, 1, variable.shape))
    x = generator.standard_normal((6, 16, 16, 3)).astype("float32")
    network = InTorch(model).eval()
    images = torch.as_tensor(x.transpose(0, 3, 1, 2))
    with torch.no_grad():
        probabilities = torch.softmax(network(images), dim=1).numpy()
    np.testing.assert_allclose(model.predict(x, verbose=0), probabilities, atol=1e-5)

    classes = np.arange(6) % CLASSES
    # By itself: 8x8 cells, the end of the second block.
    captum = LayerGradCam(network, network.parts[layer or "block1"])
    wanted = captum.attribute(
        images, torch.as_tensor(classes), relu_attributions=True
    ).detach()
    wanted = LayerAttribution.interpolate(wanted, (16, 16), "bilinear").numpy()[:, 0]
    wanted -= wanted.min(axis=(1, 2), keepdims=True)
    highest = wanted.max(axis=(1, 2), keepdims=True)
    assert (highest > 0).sum() >= 4
    wanted /= np.where(highest > 0, highest, 1)
    found = grad_cam(model, x, class_index=classes, layer=layer)["image"]
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
