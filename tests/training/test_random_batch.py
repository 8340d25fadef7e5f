"""A random batch has the structure and the shapes of the model."""

import keras
import numpy as np

from drifa_keras.training import random_batch


def test_random_batches_follow_the_model():
    image, maps = keras.Input((4, 4, 3)), keras.layers.Dense(5, activation="softmax")
    pooled = keras.layers.GlobalAveragePooling2D()
    model = keras.Model(image, {"maps": maps(image), "one": pooled(maps(image))})
    x, y = random_batch(model, 6)
    assert x.shape == (6, 4, 4, 3) and x.dtype == "uint8" and x.max() > 127
    assert {name: labels.shape for name, labels in y.items()} == {
        "maps": (6, 4, 4, 5),
        "one": (6, 5),
    }
    for labels in y.values():
        np.testing.assert_array_equal(labels.sum(axis=-1), 1)
        assert len(set(labels.argmax(axis=-1).ravel())) > 1
    pair = keras.Model([image, keras.Input((2, 2, 1))], image)
    assert [part.shape for part in random_batch(pair, 2)[0]] == [
        (2, 4, 4, 3),
        (2, 2, 2, 1),
    ]
