"""Cost against counts by hand."""

import keras
import pytest

from drifa_keras.models import Cost, cost


def test_layers_called_more_than_once_count_each_time():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(4, 3, padding="same")
    x, y = conv(a), conv(b)  # 64 * 9 * 3 * 4 = 6,912 each
    x = keras.layers.Conv2D(6, 3, strides=2, padding="valid")(x)  # 9 * 9*4*6 = 1,944
    y = keras.layers.DepthwiseConv2D(3, padding="same")(y)  # 64 * 9 * 4 = 2,304
    x = keras.layers.GlobalAveragePooling2D()(x)
    y = keras.layers.GlobalAveragePooling2D()(y)
    joined = keras.layers.Concatenate()([x, y])
    outputs = keras.layers.Dense(5)(joined)  # 10 * 5
    assert cost(keras.Model([a, b], outputs)) == Cost(
        parameters=112 + (9 * 4 * 6 + 6) + (9 * 4 + 4) + 55,
        trainable_parameters=112 + (9 * 4 * 6 + 6) + (9 * 4 + 4) + 55,
        multiply_adds=2 * 6_912 + 1_944 + 2_304 + 50,
    )


def test_nested_models_count_each_time_they_are_called():
    inner_input = keras.Input((4, 4, 2))
    inner = keras.Model(inner_input, keras.layers.Conv2D(2, 1)(inner_input))  # 16 * 4
    sequence = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])  # 6
    inputs = keras.Input((4, 4, 2))
    x = inner(inner(inputs))
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(inputs, sequence(x))
    assert cost(model).multiply_adds == 2 * 64 + 6
    assert cost(model).parameters == 6 + 9


@pytest.mark.parametrize(
    ("layer", "shape", "multiply_adds"),
    [
        # 5 steps of 3 x 4
        (keras.layers.Dense(4), (5, 3), 60),
        # each of 16 inputs meets a 3x3 kernel of 2 x 5
        (keras.layers.Conv2DTranspose(5, 3, strides=2), (4, 4, 2), 16 * 9 * 10),
        # 16 places: 3x3 for 2 channels, then 2 x 5
        (keras.layers.SeparableConv2D(5, 3, padding="same"), (4, 4, 2), 16 * (18 + 10)),
        (keras.layers.Conv1D(4, 3, padding="same"), (7, 2), 7 * 3 * 2 * 4),
        (keras.layers.Conv2D(4, 1, groups=2), (3, 3, 4), 9 * 2 * 4),
        (keras.layers.BatchNormalization(), (4, 4, 2), 0),
        (keras.layers.MaxPooling2D(), (4, 4, 2), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layer_by_hand(layer, shape, multiply_adds):
    inputs = keras.Input(shape)
    assert cost(keras.Model(inputs, layer(inputs))).multiply_adds == multiply_adds


def test_frozen_layers_are_parameters_that_are_not_trained():
    inputs = keras.Input((4,))
    layer = keras.layers.Dense(2)
    model = keras.Model(inputs, keras.layers.Dense(3)(layer(inputs)))
    layer.trainable = False
    assert cost(model) == Cost(10 + 9, 9, 8 + 6)


class Bilinear(keras.layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 2))

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


class CountedBilinear(Bilinear):
    def multiply_adds(self, input_shape):
        return 2 * input_shape[-1]


def test_unknown_layer_with_matrices_is_an_error_that_names_it():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Bilinear(name="mystery")(inputs))
    with pytest.raises(ValueError, match="'mystery' of type Bilinear.*multiply_adds"):
        cost(model)


def test_layer_that_counts_for_itself():
    inputs = keras.Input((3,))
    assert cost(keras.Model(inputs, CountedBilinear()(inputs))).multiply_adds == 6


def test_unknown_size_is_an_error_with_a_remedy():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="wide")(inputs))
    with pytest.raises(ValueError, match="'wide'.*fixed image sizes"):
        cost(model)
