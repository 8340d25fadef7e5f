"""Branches of attention that the backward pass works out again."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from drifa_keras.gradients import value_and_grad
from drifa_keras.layers import HIFA
from drifa_keras.runs import read_sources
from drifa_keras.training import train
from drifa_keras.training.train import build_model
from harness import as_numpy

BACKEND = keras.backend.backend()

LABELS = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1)).astype("uint8")


@pytest.fixture
def build(make_config):
    def build(rematerialize, **training):
        config = make_config(
            modalities=["ct"],
            arguments={"mfa": True, "dropout": 0.0},
            rematerialize=rematerialize,
            **training,
        )
        keras.utils.set_random_seed(1)
        model = build_model(config, read_sources(config))
        loss = dict.fromkeys(model.tasks, "categorical_crossentropy")
        model.compile(keras.optimizers.SGD(0.1), loss)
        return model

    return build


def step(model):
    (task,) = model.tasks
    logs = model.train_on_batch({"ct": IMAGES}, {task: LABELS}, return_dict=True)
    return float(logs["loss"])


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_step_is_the_same(dtype, build):
    plain, model = (build(value, dtype=dtype) for value in (False, True))
    assert step(model) == pytest.approx(step(plain), rel=1e-6)
    tolerance = 1e-6 if dtype == "float32" else 1e-3
    for one, other in zip(plain.variables, model.variables, strict=True):
        np.testing.assert_allclose(
            as_numpy(other), as_numpy(one), rtol=0, atol=tolerance, err_msg=one.path
        )


def test_gradient_to_the_images_is_the_same(build):
    found = []
    for rematerialize in (False, True):
        gradient_of = value_and_grad(
            lambda logits: ops.sum(logits["ct_nodule"][:, :1], axis=1),
            build(rematerialize).logits_model,
        )
        _, gradients, _ = gradient_of({"ct": IMAGES.astype("float32")})
        found.append(as_numpy(gradients["ct"]))
    assert np.abs(found[0]).max() > 0
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("rematerialize", [False, True])
def test_branches_are_worked_out_again(rematerialize, build, monkeypatch):
    model = build(rematerialize)
    branches = {x for x in model._flatten_layers() if isinstance(x, HIFA)}
    assert branches
    if BACKEND == "jax":  # traces a function once, and marks what it will repeat
        import jax

        def forward(trainable, fixed):
            return model.stateless_call(trainable, fixed, {"ct": IMAGES})[0]

        states = [
            [v.value for v in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        marked = str(jax.make_jaxpr(forward)(*states)).count("remat2[")
        assert marked == (2 * len(branches) if rematerialize else 0)
        return
    calls = []
    describe = HIFA.describe

    def counted(self, *arguments):
        calls.append(self)
        return describe(self, *arguments)

    if BACKEND == "torch":  # runs the first batch once more, to make the metrics
        step(model)
    monkeypatch.setattr(HIFA, "describe", counted)
    step(model)
    assert set(calls) == branches
    assert len(calls) == len(branches) * (2 if rematerialize else 1)


def test_run_keeps_a_network_like_any_other(make_config, tmp_path):
    config = make_config(
        modalities=["ct"], arguments={"mfa": True}, epochs=1, rematerialize=True
    )
    run = train(config, tmp_path / "run", verbose=0)
    assert run.config.training.rematerialize
    model = run.load_model()
    assert "remat" not in json.dumps(model.get_config()).lower()
    answers = model.predict({"ct": IMAGES}, verbose=0)["ct_nodule"]
    np.testing.assert_allclose(answers.sum(-1), 1, rtol=1e-5)
