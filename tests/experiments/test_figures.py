"""Figures across networks: drawn from the same images, into the folder alone."""

import numpy as np
from PIL import Image

from drifa_keras.experiments import draw_figures, figures, read_outcomes
from drifa_keras.experiments.figures import _each_class_in_turn


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
    drawn = {}
    for name in ("grad_cam_comparison", "tsne_comparison"):
        of_name = getattr(figures.figures, name)

        def recorded(*arguments, of_name=of_name, **options):
            maps = next(a for a in arguments if isinstance(a, dict))
            drawn.setdefault(of_name.__name__, []).append(list(maps))
            return of_name(*arguments, **options)

        monkeypatch.setattr(figures.figures, name, recorded)
    for name in ("grad_cam", "embedding"):
        explained = getattr(figures.explain, name)

        def refusing(model, *arguments, explained=explained, **options):
            if not model.get_config()["mifa"]:
                raise ValueError("no map and no features")
            return explained(model, *arguments, **options)

        monkeypatch.setattr(figures.explain, name, refusing)
    draw_figures(experiment, read_outcomes(of_experiment), tmp_path, images=2)
    assert drawn == {
        "grad_cam_comparison": [["Fused"]] * 2,
        "tsne_comparison": [["Fused"]] * 2,
    }
