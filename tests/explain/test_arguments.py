"""Images that do not fit the model, alike for every function of the package."""

import numpy as np
import pytest

from drifa_keras.explain import attention_maps, cross_effect, embedding, grad_cam

FUNCTIONS = {
    "grad_cam": lambda model, x: grad_cam(model, x, task="p"),
    "cross_effect": lambda model, x: cross_effect(model, x, task="p"),
    "embedding": embedding,
    "attention_maps": attention_maps,
}
BAD = {
    "input missing": (lambda x: {"a": x["a"]}, r"Missing input 'b'.*\['a', 'b'\]"),
    "input unknown": (lambda x: {**x, "c": x["a"]}, "Unknown input 'c'"),
    "too few arrays": (lambda x: [x["a"]], r"has 2 inputs. Received: 1. Pass a dict"),
    "one array": (lambda x: x["a"], "has 2 inputs. Received: 1"),
    "another size": (
        lambda x: {**x, "a": x["a"][:, :5]},
        r"'a' takes arrays of shape \(None, 8, 8, 1\). Received: \(7, 5, 8, 1\)",
    ),
    "no channels": (lambda x: {**x, "a": x["a"][..., 0]}, "'a' takes .* 8, 8, 1"),
    "one image": (lambda x: {k: v[0] for k, v in x.items()}, "'a' takes .*8, 8, 1"),
    "other lengths": (lambda x: {**x, "b": x["b"][:3]}, r"'a': 7, 'b': 3"),
    "nothing": (lambda x: {k: v[:0] for k, v in x.items()}, r"'a': 0, 'b': 0"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", BAD)
def test_images_that_do_not_fit(case, function, networks, images):
    spoil, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        FUNCTIONS[function](networks["flat"], spoil(images))


@pytest.mark.parametrize("function", ["grad_cam", "cross_effect"])
def test_task_has_to_be_named_where_there_are_several(function, networks, images):
    call = {"grad_cam": grad_cam, "cross_effect": cross_effect}[function]
    for task in (None, "r", ["p"]):
        with pytest.raises(ValueError, match=r"one of \['p', 'q'\].*Received"):
            call(networks["flat"], images, task=task)


def test_tensors_and_bytes(networks, images):
    from keras import ops

    model = networks["flat"]
    wanted = grad_cam(model, images, task="p")
    tensors = {name: ops.convert_to_tensor(x) for name, x in images.items()}
    for name, maps in grad_cam(model, tensors, task="p").items():
        np.testing.assert_array_equal(maps, wanted[name])
    bytes_ = {name: (40 * np.abs(x)).astype("uint8") for name, x in images.items()}
    floats = {name: x.astype("float32") for name, x in bytes_.items()}
    wanted = grad_cam(model, floats, task="p")
    for name, maps in grad_cam(model, bytes_, task="p").items():
        np.testing.assert_allclose(maps, wanted[name], atol=1e-6)
