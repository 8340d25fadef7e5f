"""The package as a whole: what it imports, and which way its arrows run."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import drifa_keras

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "drifa_keras"
FILES = sorted(PACKAGE.rglob("*.py"))
CODE = [*FILES, REPOSITORY / "drifa_cli.py"]

# Whatever else is installed is hidden: only Keras and one backend are left.
BARE = """
import importlib.util
import os
import sys

sys.path.insert(0, sys.argv[1])
HIDDEN = {hidden!r}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ImportError(name + " is hidden")

# Keras asks for some of these itself, and does without them.
import keras
before = set(sys.modules)
sys.meta_path.insert(0, Hide())
for name in [n for n in sys.modules if n.partition(".")[0] in HIDDEN]:
    del sys.modules[name]

import numpy as np
import drifa_keras as dk

loaded = {{name.partition(".")[0] for name in sys.modules}} & set(HIDDEN)
assert not loaded, loaded
model = dk.DRIFANet.from_preset(
    "drifa_tiny", {{"a": (16, 16, 3), "b": (16, 16, 1)}}, {{"x": 2}},
    filters=(2,), dropout_after=(),
)
outputs = dk.predict(model, {{"a": np.full((2, 16, 16, 3), 9.0)}})
assert outputs["x"].shape == (2, 2)
assert dk.models.cost(model).parameters > 0
drawn = dk.uncertainty.predict(model, {{"a": np.full((2, 16, 16, 3), 9.0)}}, passes=2)
assert drawn["x"].mutual_information.shape == (2,)
loaded = {{name.partition(".")[0] for name in sys.modules}} & set(HIDDEN)
assert not loaded, loaded
print("served")
"""


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path):
    """Dotted names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of_part(part):
    return {
        name: path
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] == part
        for name in imports_of(path)
    }


def test_package_works_with_keras_and_one_backend_alone():
    backend = keras.backend.backend()
    hidden = {"tensorflow", "matplotlib", "sklearn", "pydantic", "PIL", "typer", "rich"}
    hidden |= {"yaml", "pandas", "scipy", "jax", "torch"}
    hidden -= {
        "tensorflow": {"tensorflow"},
        # JAX stands on SciPy.
        "jax": {"jax", "scipy"},
        "torch": {"torch"},
    }[backend]
    done = subprocess.run(
        [sys.executable, "-c", BARE.format(hidden=sorted(hidden)), str(REPOSITORY)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "served" in done.stdout


def test_package_does_not_import_its_command_line():
    for path in FILES:
        roots = {name.partition(".")[0] for name in imports_of(path)}
        assert not roots & {"drifa_cli", "typer"}, path


@pytest.mark.parametrize("part", ["layers", "models"])
def test_layers_and_models_stand_on_keras_alone(part):
    allowed = {"drifa_keras", "keras", "numpy"}
    for name, path in imports_of_part(part).items():
        root = name.partition(".")[0]
        assert root in allowed or root in sys.stdlib_module_names, f"{path}: {name}"
    assert not any(n.startswith("keras.src") for n in imports_of_part(part))


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_no_lambda_layer_and_no_pickle(path):
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal"}
    assert not {name.partition(".")[0] for name in imports_of(path)} & forbidden
    for node in ast.walk(tree_of(path)):
        named = getattr(node, "attr", getattr(node, "id", None))
        assert named not in ("Lambda", "enable_unsafe_deserialization"), path
        if isinstance(node, ast.keyword) and node.arg in ("safe_mode", "allow_pickle"):
            safe = node.arg == "safe_mode"
            assert getattr(node.value, "value", None) is safe, path


@pytest.mark.parametrize("part", ["layers", "models"])
def test_a_public_class_is_registered_under_the_package(part):
    module = getattr(drifa_keras, part)
    classes = [
        value
        for name in module.__all__
        if isinstance(value := getattr(module, name), type)
        and issubclass(value, keras.layers.Layer)
    ]
    assert classes
    for value in classes:
        name = keras.saving.get_registered_name(value)
        assert name == f"drifa_keras>{value.__name__}"


def test_public_names_exist():
    for name in drifa_keras.__all__:
        assert getattr(drifa_keras, name) is not None
    assert set(drifa_keras.__all__) <= set(dir(drifa_keras))
    with pytest.raises(AttributeError, match="'drifa_keras' has no attribute 'layer'"):
        drifa_keras.layer  # noqa: B018


def test_version_is_that_of_the_distribution():
    from importlib import metadata

    try:
        installed = metadata.version("drifa_keras")
    except metadata.PackageNotFoundError:
        pytest.skip("the package is on the path, but not installed")
    assert drifa_keras.__version__ == installed


def test_named_configurations_lie_in_the_package():
    spec = importlib.util.find_spec("drifa_keras.configs")
    folder = Path(spec.origin).parent
    assert (folder / "phantoms.yaml").is_file()
