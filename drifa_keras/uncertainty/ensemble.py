"""Deep ensembles: DRIFA-Net, Sec. 3.3."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from keras import tree

from drifa_keras.models import MultimodalModel
from drifa_keras.uncertainty._split import require_graph
from drifa_keras.uncertainty.mc_dropout import output_names
from drifa_keras.uncertainty.mc_dropout import predict as predict_passes

_MANIFEST = "ensemble.json"


@keras.saving.register_keras_serializable(package="drifa_keras")
class Ensemble(keras.Model):
    """Several networks of one task as one model, which gives their mean.

    It is a Functional model with the inputs and outputs of its members, so that it can
    stand wherever one of them can: it predicts, is evaluated, and is saved as a single
    `.keras` file. What the mean has lost is still there in `members`.

    Reference: Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles*, NeurIPS 2017; Dhar et al., *Multimodal Fusion
    Learning with Dual Attention for Medical Imaging*, WACV 2025, Sec. 3.3.

    Args:
        members: Functional models of the same inputs and outputs, at least one. Their
            weights are shared, not copied.
        name: Name of the model.

    Call arguments:
        inputs: As for a member.

    Returns:
        What a member returns, the mean over the members.

    Attributes:
        members: List of the members.
    """

    def __init__(self, members, name=None):
        members = list(members)
        _check_members(members)
        # Views with names of their own: members of one run are all called alike.
        views = [
            keras.Model(*_ends(member), name=member_name(number))
            for number, member in enumerate(members)
        ]
        inputs = tree.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name),
            views[0].input,
        )
        outputs = tree.map_structure(
            lambda *each: keras.layers.Average(dtype="float32")(list(each)),
            *[view(inputs) for view in views],
        )
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        # Out of sight of Keras, which tracks the weights in the views already.
        self.__dict__["members"] = members

    @property
    def modalities(self):
        """The modalities of the members, where they are of a `MultimodalModel`."""
        return self.members[0].modalities

    @property
    def tasks(self):
        """The tasks of the members, where they are of a `MultimodalModel`."""
        return self.members[0].tasks

    def predict(self, x, *args, passes=None, **kwargs):
        """Predicts as `keras.Model.predict`, or with Monte-Carlo dropout.

        Args:
            x: As for `keras.Model.predict`.
            *args: As for `keras.Model.predict`.
            passes: Number of passes of every member, with dropout on. `None` is one
                pass with dropout off.
            **kwargs: As for `keras.Model.predict`, or for
                `drifa_keras.uncertainty.predict` where there are `passes`.

        Returns:
            The mean over the members. With `passes`, a dict of `Uncertainty`, over
            `members * passes` draws.
        """
        if passes is not None:
            return predict_passes(self, x, passes, *args, **kwargs)
        if isinstance(self.members[0], MultimodalModel):
            self.members[0]._check(x)
        return super().predict(x, *args, **kwargs)

    def predict_members(self, x, batch_size=None, verbose=0):
        """Predicts with every member, dropout off.

        Args:
            x: As for `keras.Model.predict`.
            batch_size: As for `keras.Model.predict`.
            verbose: As for `keras.Model.predict`.

        Returns:
            Dict of output name to `(members, n, ..., classes)`, as the measures of
            `drifa_keras.uncertainty` take them.
        """
        outputs = [
            tree.flatten(member.predict(x, batch_size=batch_size, verbose=verbose))
            for member in self.members
        ]
        names = output_names(self.members[0])
        return dict(zip(names, map(np.stack, zip(*outputs, strict=True)), strict=True))

    def save(self, filepath, overwrite=True, **kwargs):
        """Saves a single `.keras` file, or a folder with a file for each member.

        Args:
            filepath: A path that ends in `.keras`, or a folder that is new or empty.
            overwrite: Whether to replace the file.
            **kwargs: As for `keras.Model.save`.
        """
        path = Path(filepath)
        if path.suffix in (".keras", ".h5"):
            super().save(filepath, overwrite=overwrite, **kwargs)
            return
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(
                f"{path} exists already, and an ensemble is never written over it. "
                "Choose another folder, or move it away."
            )
        for number, member in enumerate(self.members):
            folder = path / member_name(number)
            folder.mkdir(parents=True)
            member.save(folder / "model.keras", **kwargs)
        write_manifest(path, len(self.members))

    @classmethod
    def load(cls, folder, name=None):
        """Loads the members of a folder of `save` or of `drifa train --members`.

        Args:
            folder: The folder.
            name: Name of the model.

        Returns:
            An `Ensemble`.

        Raises:
            ValueError: If it is no such folder, or a member is missing.
        """
        folder = Path(folder)
        manifest = folder / _MANIFEST
        if not manifest.is_file():
            raise ValueError(
                f"{folder} holds no ensemble: it has no {_MANIFEST}. `drifa train "
                "--members 5` and `Ensemble.save` write one. A single file is read by "
                "`keras.models.load_model`."
            )
        names = json.loads(manifest.read_text(encoding="utf-8"))["members"]
        files = [folder / member / "model.keras" for member in names]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise ValueError(
                f"{folder} is an ensemble of {len(files)} members, and lacks "
                f"{', '.join(missing)}. Copy them back, or make an `Ensemble` of the "
                "models that are left."
            )
        return cls([keras.models.load_model(file) for file in files], name=name)

    def get_config(self):
        members = [keras.saving.serialize_keras_object(m) for m in self.members]
        for member in members:
            # An optimizer for each would only be carried along.
            member.pop("compile_config", None)
        return {"members": members, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        members = [
            keras.saving.deserialize_keras_object(member, custom_objects=custom_objects)
            for member in config["members"]
        ]
        return cls(members, name=config["name"])


def member_name(number: int) -> str:
    """Name of a member, and of its folder."""
    return f"member_{number}"


def write_manifest(folder: Path, members: int) -> None:
    """Writes which members a folder holds."""
    content = {"members": [member_name(number) for number in range(members)]}
    text = json.dumps(content, indent=2) + "\n"
    (folder / _MANIFEST).write_text(text, encoding="utf-8")


def _ends(member):
    """Inputs and outputs of a model, as it takes and returns them."""
    if isinstance(member, keras.Sequential):
        return member.inputs[0], member.outputs[0]
    return member.input, member.output


def _check_members(members):
    if not members:
        raise ValueError("An ensemble needs at least one member. Received: none.")
    for member in members:
        require_graph(member)
    shapes = [
        tree.map_structure(lambda x: str(x.shape[1:]), _ends(member))
        for member in members
    ]
    for number, of_member in enumerate(shapes):
        if of_member != shapes[0]:
            raise ValueError(
                "Members need equal inputs and outputs. Received: (inputs, outputs) of "
                f"member 0 {shapes[0]}, of member {number} {of_member}."
            )
