"""Figures across networks: drawn from the same images, into the folder alone."""

import numpy as np
import pytest
import yaml
from PIL import Image

from drifa_keras.configs import load_experiment
from drifa_keras.experiments import (
    cells,
    compare,
    draw_figures,
    figures,
    read_outcomes,
)
from drifa_keras.experiments.figures import _each_class_in_turn


def recorded(monkeypatch, *names):
    """The arguments of each call of figures of these names, from now on."""
    drawn = {}

    def record(name, draw):
        def drawing(*arguments, **options):
            drawn.setdefault(name, []).append(arguments)
            return draw(*arguments, **options)

        monkeypatch.setattr(figures.figures, name, drawing)

    for name in names:
        record(name, getattr(figures.figures, name))
    return drawn


def test_each_class_comes_in_turn():
    labels = np.array([2, 0, 0, 1, 2, 0])
    order = np.array([5, 4, 3, 2, 1, 0])
    turned = _each_class_in_turn(labels, order)
    assert labels[turned].tolist() == [0, 1, 2, 0, 2, 0]
    assert turned.tolist() == [5, 3, 4, 2, 0, 1]


def test_figures_of_an_experiment(done, tmp_path):
    experiment, of_experiment, _ = done
    paths = draw_figures(experiment, read_outcomes(of_experiment), tmp_path, images=3)
    assert {path.name for path in paths} == {
        "trial_grad_cam_skin_lesion_dermoscopy.png",
        "trial_grad_cam_ct_nodule_ct.png",
        "trial_tsne_skin_lesion.png",
        "trial_tsne_ct_nodule.png",
    }
    for path in paths:
        assert path.parent == tmp_path / "figures"
        with Image.open(path) as image:
            assert np.ptp(np.asarray(image.convert("L"))) > 100


def test_nothing_to_draw(done, tmp_path):
    experiment, _, _ = done
    assert draw_figures(experiment, [], tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_network_that_cannot_be_drawn_is_left_out(done, tmp_path, monkeypatch):
    experiment, of_experiment, _ = done
    drawn = recorded(monkeypatch, "grad_cam_comparison", "tsne_comparison")
    for name in ("grad_cam", "embedding"):
        explained = getattr(figures.explain, name)

        def refusing(model, *arguments, explained=explained, **options):
            if not model.get_config()["mifa"]:
                raise ValueError("no map and no features")
            return explained(model, *arguments, **options)

        monkeypatch.setattr(figures.explain, name, refusing)
    draw_figures(experiment, read_outcomes(of_experiment), tmp_path, images=2)
    maps = [list(arguments[1]) for arguments in drawn["grad_cam_comparison"]]
    planes = [list(arguments[0]) for arguments in drawn["tsne_comparison"]]
    assert maps == planes == [["Fused"]] * 2


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """An experiment of two networks that classify pixels, and its cells, all done."""
    folder = tmp_path_factory.mktemp("segmentation")
    phantoms = {"n": 60, "image_size": 16, "aligned": True, "segmentation": True}
    training = {
        "data": {
            "sources": [{"reader": "phantoms", "options": phantoms}],
            "image_size": 16,
        },
        "model": {"preset": "unet_tiny"},
        "training": {"epochs": 1, "batch_size": 8, "pairs_per_epoch": 16},
        "evaluation": {"bootstrap": 0},
    }
    experiment = {
        "title": "Two networks of pixels",
        "datasets": {"made up": {"config": "training.yaml"}},
        "models": {
            "U-Net": {"arguments": {"filters": [4, 4]}},
            "SegNet": {
                "preset": "segnet_tiny",
                "arguments": {"filters": [4, 4], "convolutions": [1, 1]},
            },
        },
        "seeds": [0],
        "metrics": ["dice"],
    }
    for name, content in (("training", training), ("pixels", experiment)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    experiment = load_experiment(folder / "pixels.yaml")
    of_experiment = cells(experiment, folder / "out")
    compare(of_experiment)
    return experiment, of_experiment


def test_figures_of_label_maps(segmented, tmp_path, monkeypatch):
    experiment, of_experiment = segmented
    drawn = recorded(monkeypatch, "grad_cam_comparison", "label_map_panels")
    paths = draw_figures(experiment, read_outcomes(of_experiment), tmp_path, images=3)
    assert {path.name for path in paths} == {
        "pixels_grad_cam_lesion_dermoscopy.png",
        "pixels_grad_cam_lesion_ct.png",
        "pixels_maps_lesion.png",
    }
    ((images, truth, answers, _, ids),) = drawn["label_map_panels"]
    assert list(images) == ["dermoscopy", "ct"]
    assert list(answers) == ["U-Net", "SegNet"]
    assert truth.shape == (3, 16, 16) == answers["U-Net"].shape
    assert all((of_case > 0).any() for of_case in truth)
    assert len(set(ids)) == 3
    for _, maps, captions in drawn["grad_cam_comparison"]:
        assert list(maps) == ["U-Net", "SegNet"]
        assert [caption.rpartition(" in ")[2] for caption in captions] == ids
