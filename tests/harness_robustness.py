"""Linear classifiers, whose gradients and worst cases are known."""

import keras
import numpy as np

L = keras.layers

SHAPES = {"a": (6, 6, 3), "b": (6, 6, 1)}


class Linear:
    """Logits `x W + b` of one or two inputs, laid out as vectors, for each task.

    Attributes:
        model: The network.
        kernels, biases: Task name to W and b.
    """

    def __init__(self, tasks, shapes=SHAPES, scale=0.004):
        generator = np.random.default_rng(5)
        self.inputs = {name: keras.Input(s, name=name) for name, s in shapes.items()}
        vectors = [L.Flatten()(x) for x in self.inputs.values()]
        x = L.Concatenate()(vectors) if len(vectors) > 1 else vectors[0]
        dense = {task: L.Dense(n, name=task) for task, n in tasks.items()}
        logits = {task: layer(x) for task, layer in dense.items()}
        self.model = keras.Model(self.inputs, logits)
        self.kernels, self.biases = {}, {}
        for task, layer in dense.items():
            kernel = scale * generator.standard_normal(layer.kernel.shape)
            self.kernels[task] = kernel.astype("float32")
            # Grey images are undecided.
            self.biases[task] = -128 * self.kernels[task].sum(axis=0)
            layer.set_weights([self.kernels[task], self.biases[task]])

    def logits(self, x):
        """In float64."""
        x = vectors_of(x).astype("float64")
        return {task: x @ w + self.biases[task] for task, w in self.kernels.items()}

    def labels(self, x, right=1.0):
        """The answers, of which a share is right."""
        labels = {task: z.argmax(axis=1) for task, z in self.logits(x).items()}
        for task, y in labels.items():
            wrong = np.random.default_rng(6).random(len(y)) >= right
            y[wrong] = (y[wrong] + 1) % self.kernels[task].shape[1]
        return labels

    def gradient(self, x, y):
        """Gradient of the sum of the cross-entropies with regard to the vectors.

        A task whose true class is e times less likely than by chance rests while
        another is not.
        """
        gradients, lost = [], []
        for task, z in self.logits(x).items():
            p = softmax(z)
            rows = np.arange(len(p))
            lost.append(p[rows, y[task]] < 1 / (np.e * p.shape[1]))
            p[rows, y[task]] -= 1
            gradients.append(p @ self.kernels[task].astype("float64").T)
        rests = np.array(lost) & ~np.all(lost, axis=0)
        return np.where(rests[..., None], 0, gradients).sum(axis=0)

    def worst_margin(self, x, y, task, eps):
        """Least margin of two classes within `eps` in the maximum norm."""
        z, w = self.logits(x)[task], self.kernels[task].astype("float64")
        rows = np.arange(len(z))
        margin = z[rows, y[task]] - z[rows, 1 - y[task]]
        return margin - eps * np.abs(w[:, 1] - w[:, 0]).sum()


def vectors_of(x):
    return np.concatenate([image.reshape(len(image), -1) for image in x.values()], 1)


def softmax(z):
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def pixels(count, shapes=SHAPES, low=40, high=216, seed=0):
    """Whole grey levels, away from the bounds by default."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(low, high, (count, *shape)).astype("float32")
        for name, shape in shapes.items()
    }
