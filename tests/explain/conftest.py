"""Small networks whose maps, gradients and effects can be worked out by hand."""

import keras
import numpy as np
import pytest

L = keras.layers
SIZE = 8
SHAPES = {"a": (SIZE, SIZE, 1), "b": (SIZE, SIZE, 2)}
TASKS = {"p": 3, "q": 2}


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Two threads of PyTorch are slower than one on networks as small as these."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def images():
    """Images for the two inputs, seven samples."""
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal((7, *shape)).astype("float32")
        for name, shape in SHAPES.items()
    }


def parts():
    """The layers of the network: two streams, what joins them, two heads."""
    joint = {name: L.Dense(5, use_bias=False, name=f"joint_{name}") for name in SHAPES}
    maps = {
        name: L.Conv2D(4, 1, activation="relu", name=f"conv_{name}") for name in SHAPES
    }
    heads = {
        task: L.Dense(classes, activation="softmax", name=task)
        for task, classes in TASKS.items()
    }
    return maps, joint, heads


def flat(maps, joint, heads):
    inputs = {name: keras.Input(shape, name=name) for name, shape in SHAPES.items()}
    features = L.Add()(
        [joint[name](L.Flatten()(maps[name](x))) for name, x in inputs.items()]
    )
    features = L.Activation("tanh")(features)
    return inputs, {task: head(features) for task, head in heads.items()}


def lists(maps, joint, heads):
    """Inputs and outputs as lists, the inputs in another order."""
    inputs, outputs = flat(maps, joint, heads)
    return list(inputs.values())[::-1], list(outputs.values())


def nested(maps, joint, heads):
    """A Functional encoder in a model in a model, a Sequential one, nested heads."""
    x = keras.Input(SHAPES["a"])
    encoder_a = keras.Model(x, L.Flatten()(maps["a"](x)), name="inner")
    x = keras.Input(SHAPES["a"])
    encoder_a = keras.Model(x, joint["a"](encoder_a(x)), name="encoder_a")
    encoder_b = keras.Sequential([maps["b"], L.Flatten(), joint["b"]], name="encoder_b")
    x = keras.Input((5,))
    classifier = keras.Model(x, {task: head(x) for task, head in heads.items()})
    inputs = {name: keras.Input(shape, name=name) for name, shape in SHAPES.items()}
    features = L.Add()([encoder_a(inputs["a"]), encoder_b(inputs["b"])])
    return inputs, classifier(L.Activation("tanh")(features))


def operations(maps, joint, heads):
    """Operations of `keras.ops` in place of layers, softmax too."""
    from keras import ops

    inputs = {name: keras.Input(shape, name=name) for name, shape in SHAPES.items()}
    features = sum(
        joint[name](ops.reshape(maps[name](x), (-1, 4 * SIZE**2)))
        for name, x in inputs.items()
    )
    for head in heads.values():
        head.activation = keras.activations.linear
    features = ops.tanh(features)
    return inputs, {
        task: ops.softmax(head(features), axis=-1) for task, head in heads.items()
    }


BUILDS = {"flat": flat, "lists": lists, "nested": nested, "operations": operations}


@pytest.fixture(scope="package")
def networks():
    """The same network, put together in several ways, with the same weights.

    For each of the tasks `p` and `q`,

        logits = tanh(A W_a + B W_b) V + v,  A = relu(a K_a + k_a),  B likewise,

    with a and b the pixels of the two images, A and B flattened.
    """
    models = {}
    for name, build in BUILDS.items():
        layers = parts()
        models[name] = keras.Model(*build(*layers), name=f"network_{name}")
        generator = np.random.default_rng(3)
        for group in layers:
            for layer in group.values():
                layer.set_weights(
                    [
                        generator.standard_normal(weight.shape) / weight.shape[0] ** 0.5
                        for weight in layer.weights
                    ]
                )
        models[name].oracle = Oracle(*layers)
    return models


class Oracle:
    """The network in NumPy, float64, with derivatives worked out by hand."""

    def __init__(self, maps, joint, heads):
        def weights(layers):
            return {
                name: [array.astype("float64") for array in layer.get_weights()]
                for name, layer in layers.items()
            }

        self.maps, self.joint, self.heads = map(weights, (maps, joint, heads))

    def feature_map(self, name, x):
        kernel, bias = self.maps[name]
        return np.maximum(x @ kernel[0, 0] + bias, 0)

    def features(self, x):
        total = 0.0
        for name, (matrix,) in self.joint.items():
            total = total + self.feature_map(name, x[name]).reshape(
                len(x[name]), -1
            ) @ (matrix)
        return np.tanh(total)

    def logits(self, x, task):
        matrix, bias = self.heads[task]
        return self.features(x) @ matrix + bias

    def gradient(self, x, task, name, classes):
        """d(logit of a class)/d(feature map), (n, height, width, channels)."""
        backwards = self.heads[task][0][:, classes].T * (1 - self.features(x) ** 2)
        backwards = backwards @ self.joint[name][0].T
        return backwards.reshape(self.feature_map(name, x[name]).shape)
