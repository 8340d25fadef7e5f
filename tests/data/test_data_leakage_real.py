"""The audit finds on the real, shrunk images what is known of the originals."""

import csv

import numpy as np
import pytest

from drifa_keras.data import Source, ham10000, image_folder, sipakmed
from drifa_keras.data.leakage import audit, audit_split, fingerprint, merge_groups
from drifa_keras.data.splits import Split


def test_iq_othnccd(data_root):
    source = image_folder(data_root / "The IQ-OTHNCCD lung cancer dataset")
    found = audit(source, progress=False)
    assert found.images == 1097
    assert (found.exact.sets, found.exact.surplus) == (43, 43)
    assert found.exact.across_classes == 0
    # On the originals: 1,156 confirmed pairs of 781 images, 6 across classes.
    assert found.near["confirmed"].pairs == pytest.approx(1156, rel=0.03)
    assert found.near["confirmed"].images == pytest.approx(781, rel=0.03)
    assert found.near["confirmed"].across_classes == len(found.conflicts) == 6
    assert found.conflicts[0]["ids"][0] == "Bengin cases/Bengin case (32).jpg"
    assert found.split("random").neighbour == pytest.approx(0.986, abs=0.01)
    assert found.split("grouped").confirmed == 0


def test_ham10000_lesions(data_root):
    """The groups alone, from stand-ins for the images."""
    source = ham10000(data_root)
    assert len(source) == 10015 and len(np.unique(source.groups)) == 7470
    stand_ins = np.zeros((10015, 2, 2, 3), np.uint8)
    stand_ins[:, 0, 0, :2] = np.stack(np.divmod(np.arange(10015), 256), axis=1)
    stand_ins[:, 1, 1] = 255
    source = Source(
        "ham10000",
        {"image": stand_ins},
        source.targets,
        source.class_names,
        source.groups,
        source.ids,
    )
    rows = np.random.default_rng(0).choice(10015, 2000, replace=False)
    prints = fingerprint(source.take(rows), progress=False)
    assert prints.usable.all()
    contaminated, melanoma = [], []
    groups, labels = source.groups, source.targets["skin_lesion"]
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(10015)
        test, train = order[:1002], order[1002:]
        shared = np.isin(groups[test], groups[train])
        contaminated.append(shared.mean())
        melanoma.append(shared[labels[test] == 4].mean())
    assert np.mean(contaminated) == pytest.approx(0.418, abs=0.01)
    assert np.mean(melanoma) == pytest.approx(0.736, abs=0.03)


def test_sipakmed_fields_photographed_twice(data_root):
    source = sipakmed(data_root)
    with open(data_root / "duplicates" / "SIPaKMeD.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    # The part of the set that is in a near-duplicate group of the originals.
    counts = np.unique([row["near_group"] for row in rows], return_counts=True)
    shared = set(counts[0][counts[1] > 1].tolist())
    twins = {r["path"].split("/", 1)[1] for r in rows if r["near_group"] in shared}
    part = source.take(np.flatnonzero([name in twins for name in source.ids.tolist()]))
    prints = fingerprint(part, progress=False)
    merged = merge_groups(part, prints)
    assert len(part) == 136
    found = audit(part, fingerprints=prints, progress=False)
    # 87 on the originals. Shrinking pushes some of these below the thresholds (and
    # about as many other pairs above: 85 in the whole shrunk set).
    assert found.near["confirmed"].pairs == pytest.approx(73, abs=5)
    # Every pair joins two cluster images, so grouping by cluster is not enough.
    assert found.near["confirmed"].across_groups == found.near["confirmed"].pairs
    assert len(np.unique(merged.groups)) < len(np.unique(part.groups))


def test_nickparvar_official_folders(data_root):
    """`meningioma` alone: 106 of its 306 Testing files are in Training as well."""
    root = data_root / "brain-tumor-mri-dataset"
    train, test = (image_folder(root / part) for part in ("Training", "Testing"))
    label = train.class_names["label"].index("meningioma")
    sources = [s.take(s.targets["label"] == label) for s in (train, test)]
    lengths = [len(s) for s in sources]
    source = Source(
        name="nickparvar",
        modalities={"mri": np.concatenate([s.modalities["image"] for s in sources])},
        targets={"tumor": np.zeros(sum(lengths), int)},
        class_names={"tumor": ("meningioma", "other")},
    )
    parts = Split(np.arange(lengths[0]), [], np.arange(lengths[0], sum(lengths)))
    found = audit_split(source, parts, fingerprint(source, progress=False))
    assert (found.train, found.test) == (1339, 306)
    assert found.exact * 306 == pytest.approx(106)
    assert found.confirmed * 306 == pytest.approx(109, abs=2)
