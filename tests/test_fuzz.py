"""Damaged files: one clear line each, little memory, nothing touched outside a run."""

import json
import os
import shutil
import warnings

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

from drifa_keras.configs import load_config
from harness_cli import TINY, drifa

pytestmark = pytest.mark.usefixtures("bounded_memory")

ODD = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    "",
    "../../outside",
    "/etc/passwd",
    "x" * 3000,
    "{{ 7 * 7 }}<script>alert(1)</script>",
    [],
    {},
    [[]],
    {"a": {"b": [None]}},
    b"bytes".decode(),
)


def damaged(content: bytes, rng) -> bytes:
    """Bytes flipped, cut out, doubled, zeroed or put in."""
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(max(len(content), 1)))
        size = int(rng.integers(1, 200))
        how = rng.integers(5)
        if how == 0:
            for place in rng.integers(0, max(len(content), 1), 8):
                if place < len(content):
                    content[place] = int(rng.integers(256))
        elif how == 1:
            del content[start : start + size]
        elif how == 2:
            content[start:start] = content[start : start + size]
        elif how == 3:
            content[start : start + size] = bytes(len(content[start : start + size]))
        else:
            content[start:start] = rng.bytes(int(rng.integers(1, 30)))
    if rng.integers(8) == 0:
        content = content[: int(rng.integers(len(content) + 1))]
    return bytes(content)


def replaced(content, rng):
    """A copy in which one value, key or whole branch is another."""
    content = json.loads(json.dumps(content))
    node, path = content, []
    while isinstance(node, (dict, list)) and len(node):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[int(rng.integers(len(keys)))]
        path.append((node, key))
        node = node[key]
    if not path:
        return ODD[int(rng.integers(len(ODD)))]
    parent, key = path[int(rng.integers(len(path)))]
    how = rng.integers(4)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    else:
        parent[key] = ODD[int(rng.integers(len(ODD)))]
    return content


def tries(count, share=30):
    """The number of cases, and a share of it unless large tests run."""
    return [
        pytest.param(count // share, id="some"),
        pytest.param(count, id="all", marks=pytest.mark.large),
    ]


def assert_one_line(code, err):
    assert code in (0, 1), err
    if code:
        lines = err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("drifa: "), err
        assert len(lines[0]) < 5000


@pytest.mark.parametrize("count", tries(900))
def test_configurations(count, tmp_path):
    rng = np.random.default_rng(0)
    text = yaml.safe_dump(TINY).encode()
    path, seen = tmp_path / "study.yaml", set()
    for number in range(count):
        if number % 2:
            path.write_bytes(damaged(text, rng))
        else:
            path.write_text(yaml.safe_dump(replaced(TINY, rng)))
        try:
            load_config(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            seen.add(str(error)[-40:])
    assert len(seen) > count // 20 > 0


# Files are read in one way on all backends.
once = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="is tried on TensorFlow"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with all that commands add to it, of which none runs a network again."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "study.yaml").write_text(yaml.safe_dump(TINY))
    for command in (
        ("train", "study.yaml", "--epochs", 1, "--out", "run"),
        ("uncertainty", "run", "--passes", 2),
        ("explain", "run", "--cases", 1),
        ("attack", "run", "--eps", "4/255", "--images", 2, "--no-checks"),
    ):
        code, _, err = drifa(*command, folder=folder)
        assert code == 0, err
    return folder / "run"


def snapshot(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if "run" not in path.relative_to(folder).parts
    }


@once
@pytest.mark.parametrize("count", tries(600, 60))  # a report takes seconds
def test_reports_of_damaged_runs(whole, count, tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "beside.txt").write_text("-")
    names = sorted(
        path.relative_to(whole)
        for path in whole.rglob("*")
        if path.suffix in (".json", ".npz", ".yaml", ".csv")
    )
    assert len(names) > 8
    folder, failed = tmp_path / "run", 0
    shutil.copytree(whole, folder)
    before = snapshot(tmp_path)
    for number in range(count):
        name = names[number % len(names)]
        content = (whole / name).read_bytes()
        if name.suffix == ".json" and number % 3:
            changed = replaced(json.loads(content), rng)
            (folder / name).write_text(json.dumps(changed))
        elif name.suffix == ".yaml" and number % 3:
            changed = replaced(yaml.safe_load(content), rng)
            (folder / name).write_text(yaml.safe_dump(changed))
        else:
            (folder / name).write_bytes(damaged(content, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code, _, err = drifa("report", "run", folder=tmp_path)
        assert_one_line(code, err)
        failed += code
        if code == 0:
            page = (folder / "report.html").read_text()
            assert "<script>alert(1)</script>" not in page
        shutil.copyfile(whole / name, folder / name)
    assert failed > count // 10
    assert snapshot(tmp_path) == before


@once
@pytest.mark.parametrize("count", tries(500))
def test_damaged_models(whole, count, tmp_path):
    rng = np.random.default_rng(2)
    content = (whole / "model.keras").read_bytes()
    shutil.copytree(whole, tmp_path / "run")
    before, failed = snapshot(tmp_path), 0
    image = tmp_path / "run" / "ct.png"
    Image.fromarray(np.full((16, 16), 90, "uint8")).save(image)
    for _ in range(count):
        (tmp_path / "run" / "model.keras").write_bytes(damaged(content, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code, _, err = drifa(
                "predict", "run", "--image", f"ct={image}", "--json", folder=tmp_path
            )
        assert_one_line(code, err)
        failed += code
    assert failed > count // 10
    assert snapshot(tmp_path) == before
    assert os.listdir(tmp_path) == ["run"]
