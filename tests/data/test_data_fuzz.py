"""Five hundred broken or unusual files through every reader, made from a seed.

Each is read rightly, or refused by a ValueError that names it in one line. None
crashes, hangs, fills the memory, or becomes a black image without a warning.
"""

import csv
import gzip
import io
import struct
import time
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from drifa_keras.data import read

pytestmark = pytest.mark.usefixtures("bounded_memory")

SIZE = (24, 32)
IMAGES_A_READER, VOLUMES, ARCHIVES = 74, 80, 50
SECONDS_A_FILE = 5


def test_they_are_five_hundred():
    assert 5 * IMAGES_A_READER + VOLUMES + ARCHIVES == 500


# --- what a case must end as ---------------------------------------------------------


def attempt(load, path):
    """The pixels, or None where the file was refused as it should be."""
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            pixels = load()
        except ValueError as error:
            message = str(error)
            assert path.name in message, message
            assert "\n" not in message, message
            pixels = None
    assert time.monotonic() - start < SECONDS_A_FILE
    ours = [w for w in caught if "drifa_keras" in w.filename]
    assert not [w for w in ours if issubclass(w.category, RuntimeWarning)]
    if pixels is not None and pixels.size:
        assert pixels.dtype == np.uint8
        black = ~pixels.reshape(len(pixels), -1).any(axis=1)
        told = any("black everywhere" in str(w.message) for w in caught)
        assert told or not black.any()
    return pixels


# --- images --------------------------------------------------------------------------


def photo(rng):
    small = rng.integers(30, 255, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC)


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def any_file(rng):
    kind = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "PPM")[rng.integers(7)]
    return encode(photo(rng), kind)


def truncated(rng):
    content = any_file(rng)
    return content[: int(rng.integers(1, len(content)))]


def flipped(rng):
    content = bytearray(any_file(rng))
    for place in rng.integers(0, len(content), int(rng.integers(1, 30))):
        content[place] = int(rng.integers(256))
    return bytes(content)


def zeroed(rng):
    content = bytearray(any_file(rng))
    start = int(rng.integers(len(content)))
    end = min(len(content), start + int(rng.integers(1, 2_000)))
    content[start:end] = bytes(end - start)
    return bytes(content)


def huge_header(rng):
    """A small PNG whose header claims 60,000 x 60,000 pixels."""
    content = bytearray(encode(photo(rng), "PNG"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def bomb(rng):
    return encode(Image.new("1", (20_000, 20_000), 1), "PNG")


def sixteen_bits(rng):
    grey = np.asarray(photo(rng).convert("L")).astype(np.uint16) * 257
    return encode(Image.fromarray(grey), ("PNG", "TIFF")[rng.integers(2)])


def sixteen_bit_colour(most):
    """A PNG of 16 bits a channel, which Pillow reads but cannot write."""

    def make(rng):
        values = np.asarray(photo(rng)).astype(np.uint32) * most // 255
        rows = [b"\0" + row.astype(">u2").tobytes() for row in values]
        height, width = values.shape[:2]
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(b"".join(rows))),
            (b"IEND", b""),
        ]
        content = b"\x89PNG\r\n\x1a\n"
        for name, body in chunks:
            content += struct.pack(">I", len(body)) + name + body
            content += struct.pack(">I", zlib.crc32(name + body))
        return content

    return make


def floats(rng):
    grey = np.asarray(photo(rng).convert("L")).astype(np.float32) / 255
    return encode(Image.fromarray(grey), "TIFF")


def odd_floats(rng):
    grey = np.asarray(photo(rng).convert("L")).astype(np.float32)
    grey[3, 3] = (np.nan, np.inf, -1_000.0, 1e9)[rng.integers(4)]
    return encode(Image.fromarray(grey), "TIFF")


def transparent(rng):
    image = photo(rng).convert("RGBA")
    image.putalpha(255 if rng.integers(2) else 0)
    return encode(image, "PNG")


def animated(rng):
    frames = [photo(rng) for _ in range(4)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated(rng):
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    return encode(photo(rng), "JPEG", exif=exif)


def one_pixel(rng):
    return encode(Image.new("RGB", (1, 1), (9, 200, 90)), "PNG")


READ, REFUSED, EITHER = "read", "refused", "either"
KINDS = {
    "as it is": (any_file, READ),
    "16 bits": (sixteen_bits, READ),
    "16-bit colour": (sixteen_bit_colour(65_535), READ),
    "float": (floats, READ),
    "CMYK JPEG": (lambda rng: encode(photo(rng).convert("CMYK"), "JPEG"), READ),
    "CMYK TIFF": (lambda rng: encode(photo(rng).convert("CMYK"), "TIFF"), READ),
    "palette": (lambda rng: encode(photo(rng).convert("P"), "PNG"), READ),
    "1 bit": (lambda rng: encode(photo(rng).convert("1"), "PNG"), READ),
    "grey and alpha": (lambda rng: encode(photo(rng).convert("LA"), "PNG"), READ),
    "alpha": (transparent, READ),
    "one pixel": (one_pixel, READ),
    "one line": (lambda rng: encode(photo(rng).resize((9_000, 1)), "PNG"), READ),
    "animation": (animated, READ),
    "EXIF": (rotated, READ),
    "black": (lambda rng: encode(Image.new("RGB", (9, 9)), "PNG"), READ),
    "12 bits in 16-bit colour": (sixteen_bit_colour(4_095), REFUSED),
    "odd float": (odd_floats, REFUSED),
    "empty": (lambda rng: b"", REFUSED),
    "zeros": (lambda rng: bytes(int(rng.integers(1, 5_000))), REFUSED),
    "noise": (lambda rng: b"\x01" + rng.bytes(2_000), REFUSED),
    "text": (lambda rng: b"<html>404</html>", REFUSED),
    "huge header": (huge_header, REFUSED),
    "bomb": (bomb, REFUSED),
    "truncated": (truncated, EITHER),
    "flipped": (flipped, EITHER),
    "zeroed": (zeroed, EITHER),
}
BROKEN = ("truncated", "flipped", "zeroed")


def folders_reader(name, classes, pattern):
    def build(root):
        for label in classes:
            for i in range(2):
                path = root / pattern.format(label=label, i=i)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode(Image.new("RGB", (9, 9), (90, 80, 70)), "PNG"))
        return lambda: read(name, root, **({} if name == "image_folder" else NO_CHECK))

    return build


NO_CHECK = {"verify": False}
TUMOURS = ("glioma", "meningioma", "notumor", "pituitary")
CELLS = (
    *("Dyskeratotic", "Koilocytotic", "Metaplastic"),
    *("Parabasal", "Superficial-Intermediate"),
)


def ham(root):
    rows = [["lesion_id", "image_id", "dx"]]
    for i, label in enumerate(("nv", "mel", "bkl")):
        path = root / "HAM10000_images" / f"ISIC_{i:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image.new("RGB", (9, 9), (90, 80, 70)), "JPEG"))
        rows.append([f"HAM_{i}", path.stem, label])
    with (root / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return lambda: read("ham10000", root, **NO_CHECK)


def brain(root):
    folders_reader("", TUMOURS, "Testing/{label}/Te_{i}.jpg")(root)
    folders_reader("", TUMOURS, "Training/{label}/Tr_{i}.jpg")(root)
    return lambda: read("brain_tumor_mri", root, **NO_CHECK)


IMAGE_READERS = {
    "ham10000": ham,
    "sipakmed": folders_reader("sipakmed", CELLS, "im_{label}/CROPPED/001_0{i}.bmp"),
    "brain_tumor_mri": brain,
    "iq_othnccd": folders_reader(
        "iq_othnccd", ("Bengin", "Malignant", "Normal"), "{label} cases/c ({i}).jpg"
    ),
    "image_folder": folders_reader("image_folder", ("a", "b"), "{label}/{i}.tif"),
}


@pytest.mark.parametrize("reader", IMAGE_READERS)
def test_images(tmp_path, reader):
    make_source = IMAGE_READERS[reader](tmp_path)
    source = make_source()
    (modality,) = source.modalities
    row = len(source) - 1
    path = tmp_path / source.ids[row]
    rng = np.random.default_rng([7, sorted(IMAGE_READERS).index(reader)])
    order = [*KINDS, *BROKEN * IMAGES_A_READER][:IMAGES_A_READER]
    outcomes = []
    for kind in order:
        make, expected = KINDS[kind]
        path.write_bytes(make(rng))

        def load():
            loaded = make_source().take([row]).load(SIZE, progress=False)
            return loaded.modalities[modality]

        pixels = attempt(load, path)
        outcomes.append(pixels is None)
        assert expected == EITHER or (pixels is None) == (expected == REFUSED), kind
        if pixels is not None:
            assert pixels.shape == (1, *SIZE, 3)
    assert 0.2 < np.mean(outcomes) < 0.9


def test_unusual_images_are_read_rightly(tmp_path):
    """The same picture in every encoding gives the same pixels."""
    load = folders_reader("image_folder", ("a", "b"), "{label}/{i}.tif")(tmp_path)
    path = tmp_path / "b" / "1.tif"
    rights = (
        *("16 bits", "16-bit colour", "float", "CMYK JPEG", "CMYK TIFF"),
        *("palette", "animation"),
    )
    for number, kind in enumerate(rights):
        path.write_bytes(KINDS[kind][0](np.random.default_rng(number)))
        image = photo(np.random.default_rng(number))
        if kind in ("16 bits", "float"):
            image = image.convert("L").convert("RGB")
        got = load().take([3]).load((60, 80), progress=False).modalities["image"][0]
        difference = np.abs(got.astype(float) - np.asarray(image)).mean()
        assert difference < (20 if kind in ("palette", "animation") else 4), kind
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        path.write_bytes(encode(photo(np.random.default_rng(1)), "JPEG", exif=exif))
        shape = (80, 60) if turn > 4 else (60, 80)  # width and height swap
        got = load().take([3]).load(shape, progress=False).modalities["image"][0]
        upright = {1: (0, 0), 3: (-1, -1), 6: (0, -1), 8: (-1, 0)}.get(turn)
        if upright is not None:
            corner = np.asarray(photo(np.random.default_rng(1)))[0, 0].astype(float)
            assert np.abs(got[upright] - corner).max() < 25, turn


def test_metadata(tmp_path):
    """The table of HAM10000, cut and altered."""
    load = ham(tmp_path)
    path = tmp_path / "HAM10000_metadata.csv"
    good = path.read_bytes()
    rng = np.random.default_rng(13)
    broken = [b"", b"\0" * 90, rng.bytes(400), good.split(b"\n")[0], good + good]
    broken += [good[: int(rng.integers(1, len(good) - 2))] for _ in range(20)]
    for _ in range(40):
        content = bytearray(good)
        for place in rng.integers(0, len(content), 3):
            content[place] = int(rng.integers(256))
        broken.append(bytes(content))
    refused = 0
    for content in broken:
        path.write_bytes(content)
        try:
            assert 1 <= len(load()) <= 3
        except ValueError as error:
            refused += 1
            # A name that was altered is reported as a file that is not there.
            assert str(tmp_path) in str(error) and "HAM10000" in str(error)
            assert "\n" not in str(error)
    assert refused > 30


# --- volumes -------------------------------------------------------------------------

SHAPE = (16, 16, 6)


def nifti(values, affine=None, zipped=True):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([-1.0, -1, 1, 1]) if affine is None else affine
    content = nibabel.Nifti1Image(values, affine).to_bytes()
    return gzip.compress(content, 1, mtime=0) if zipped else content


def head(rng):
    values = np.zeros(SHAPE, np.int16)
    values[3:-3, 3:-3] = rng.integers(50, 900, (10, 10, 6))
    return values


def header_field(offset, pattern, *values):
    def make(rng):
        content = bytearray(nifti(head(rng), zipped=False))
        struct.pack_into(pattern, content, offset, *values)
        return (
            gzip.compress(bytes(content), 1, mtime=0)
            if rng.integers(2)
            else bytes(content)
        )

    return make


def not_finite(rng):
    values = head(rng).astype(np.float32)
    values[tuple(rng.integers(0, 6, 3))] = (np.nan, np.inf, -np.inf)[rng.integers(3)]
    return nifti(values)


def half(make):
    def cut(rng):
        content = make(rng)
        return content[: int(rng.integers(1, len(content) - 1))]

    return cut


def altered_gzip(rng):
    content = bytearray(nifti(head(rng)))
    for place in rng.integers(10, len(content), int(rng.integers(1, 9))):
        content[place] ^= int(rng.integers(1, 256))
    return bytes(content)


def altered_header(rng):
    content = bytearray(nifti(head(rng), zipped=False))
    for place in rng.integers(0, 352, int(rng.integers(1, 12))):
        content[place] = int(rng.integers(256))
    return bytes(content)


VOLUME_KINDS = {
    "int16": (lambda rng: nifti(head(rng)), READ),
    "not zipped": (lambda rng: nifti(head(rng), zipped=False), READ),
    "float64": (lambda rng: nifti(head(rng).astype(np.float64)), READ),
    "uint8": (lambda rng: nifti((head(rng) // 4).astype(np.uint8)), READ),
    "int32": (lambda rng: nifti(head(rng).astype(np.int32)), READ),
    "big endian": (lambda rng: nifti(head(rng).astype(">i2")), READ),
    "4-D of one": (lambda rng: nifti(head(rng)[..., None]), READ),
    "scaled": (header_field(112, "<ff", 0.5, 0.0), READ),
    "NaN": (not_finite, REFUSED),
    "complex": (lambda rng: nifti(head(rng).astype(np.complex64)), REFUSED),
    "4-D": (lambda rng: nifti(np.stack([head(rng)] * 2, -1)), REFUSED),
    "2-D": (lambda rng: nifti(head(rng)[..., 0]), REFUSED),
    "other shape": (lambda rng: nifti(head(rng)[:, :-1]), REFUSED),
    "all zero": (lambda rng: nifti(np.zeros(SHAPE, np.int16)), REFUSED),
    "constant": (lambda rng: nifti(np.full(SHAPE, 7, np.int16)), REFUSED),
    "other affine": (lambda rng: nifti(head(rng), np.diag([3.0, 1, 1, 1])), REFUSED),
    "turned": (lambda rng: nifti(head(rng), np.eye(4)[[2, 1, 0, 3]]), REFUSED),
    "flipped affine": (lambda rng: nifti(head(rng), np.eye(4)), REFUSED),
    "NaN affine": (header_field(280, "<f", float("nan")), REFUSED),
    "singular affine": (header_field(280, "<12f", *[0.0] * 12), REFUSED),
    "huge": (header_field(40, "<8h", 3, 32_000, 32_000, 32_000, 1, 1, 1, 1), REFUSED),
    "negative size": (header_field(40, "<8h", 3, -16, 16, 6, 1, 1, 1, 1), REFUSED),
    "infinite offset": (header_field(112, "<ff", 1.0, float("inf")), REFUSED),
    "far offset": (header_field(108, "<f", 1e12), REFUSED),
    "unknown type": (header_field(70, "<h", 9_999), REFUSED),
    "no magic": (header_field(344, "<4s", b"none"), REFUSED),
    "empty": (lambda rng: b"", REFUSED),
    "text": (lambda rng: b"<html>404</html>" * 40, REFUSED),
    "truncated gzip": (half(lambda rng: nifti(head(rng))), REFUSED),
    "truncated": (half(lambda rng: nifti(head(rng), zipped=False)), REFUSED),
    "altered gzip": (altered_gzip, EITHER),
    "altered header": (altered_header, EITHER),
}
BROKEN_VOLUMES = ("truncated gzip", "altered gzip", "altered header")
LABEL_KINDS = {
    "label 3": (lambda labels: np.where(labels == 1, 3, labels), REFUSED),
    "half a label": (lambda labels: labels * 0.5, REFUSED),
    "NaN label": (lambda labels: np.where(labels == 1, np.nan, labels), REFUSED),
    "float labels": (lambda labels: labels.astype(np.float32), READ),
    "off the brain": (lambda labels: np.roll(labels, 8, axis=0), REFUSED),
    "no tumour": (np.zeros_like, READ),
}


def test_volumes(tmp_path):
    pytest.importorskip("nibabel")
    rng = np.random.default_rng(11)
    folder = tmp_path / "BraTS20_Training_001"
    folder.mkdir()
    name = "BraTS20_Training_001_{}.nii.gz".format
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 4:9, 1:5] = 2
    labels[5:8, 5:8, 2:4] = 1
    good = {m: nifti(head(rng)) for m in ("flair", "t1", "t1ce", "t2")}
    good["seg"] = nifti(labels)
    for part, content in good.items():
        (folder / name(part)).write_bytes(content)

    def load():
        source = read("brats2020", tmp_path, **NO_CHECK)
        assert set(source.modalities) == {"flair", "t1", "t1ce", "t2"}
        return np.concatenate([source.modalities[m] for m in sorted(good)[:1]])

    def check(part, content, expected, kind):
        path = folder / name(part)
        path.write_bytes(content)
        pixels = attempt(load, path)
        assert expected == EITHER or (pixels is None) == (expected == REFUSED), kind
        path.write_bytes(good[part])
        return pixels is None

    order = [*VOLUME_KINDS, *BROKEN_VOLUMES * VOLUMES][: VOLUMES - len(LABEL_KINDS)]
    refused = [
        check("flair", VOLUME_KINDS[kind][0](rng), VOLUME_KINDS[kind][1], kind)
        for kind in order
    ]
    assert 0.3 < np.mean(refused) < 0.95
    for kind, (change, expected) in LABEL_KINDS.items():
        values = np.asarray(change(labels))
        kept = values.dtype if values.dtype != np.int64 else np.uint8
        check("seg", nifti(values.astype(kept)), expected, kind)
    assert attempt(load, folder).shape == (6, 16, 16, 1)


def test_checksums_catch_altered_volumes(tmp_path):
    """One altered byte of a gzipped volume is either harmless or noticed."""
    pytest.importorskip("nibabel")
    from drifa_keras.data.volumes import read_volume

    rng = np.random.default_rng(3)
    values = head(rng)
    content = nifti(values)
    path = tmp_path / "a.nii.gz"
    noticed = 0
    for _ in range(40):
        altered = bytearray(content)
        altered[int(rng.integers(len(content)))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(altered))
        try:
            assert np.array_equal(read_volume(path).values, values)
        except ValueError:
            noticed += 1
    assert noticed > 30


# --- MedMNIST archives ---------------------------------------------------------------


def arrays(rng):
    table = {}
    for part in ("train", "val", "test"):
        table[f"{part}_images"] = rng.integers(1, 255, (3, 12, 12, 3), dtype=np.uint8)
        table[f"{part}_labels"] = np.arange(3, dtype=np.uint8)[:, None]
    return table


def npz(table, **options):
    out = io.BytesIO()
    (np.savez_compressed if options.get("small") else np.savez)(out, **table)
    return out.getvalue()


class Exploit:
    """What a pickle would run when loaded."""

    ran = False

    def __reduce__(self):
        return (setattr, (Exploit, "ran", True))


def changed(**changes):
    return lambda rng: npz({**arrays(rng), **changes})


def pickled(rng):
    objects = np.empty(3, object)
    objects[:] = [Exploit()] * 3
    return npz({**arrays(rng), "train_labels": objects})


def lacking(rng):
    table = arrays(rng)
    del table[sorted(table)[rng.integers(6)]]
    return npz(table)


def with_members(*names):
    def make(rng):
        out = io.BytesIO(npz(arrays(rng)))
        with zipfile.ZipFile(out, "a") as archive:
            for name in names:
                archive.writestr(name, b"escaped")
        return out.getvalue()

    return make


def claiming(shape, kind="|u1"):
    """A member whose header claims far more than it holds."""

    def make(rng):
        table = arrays(rng)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for key, values in table.items():
                file = io.BytesIO()
                np.save(file, values)
                content = file.getvalue()
                if key == "train_images":
                    header = f"{{'descr': '{kind}', 'fortran_order': False, "
                    header += f"'shape': {shape}, }}"
                    header = header.ljust(117) + "\n"
                    content = b"\x93NUMPY\x01\x00v\x00" + header.encode() + b"1" * 9
                archive.writestr(f"{key}.npy", content)
        return out.getvalue()

    return make


def altered_npz(rng):
    content = bytearray(npz(arrays(rng), small=bool(rng.integers(2))))
    for place in rng.integers(0, len(content), int(rng.integers(1, 20))):
        content[place] = int(rng.integers(256))
    return bytes(content)


ARCHIVE_KINDS = {
    "as it is": (changed(), READ),
    "compressed": (lambda rng: npz(arrays(rng), small=True), READ),
    "more keys": (changed(notes=np.zeros(3)), READ),
    "wide labels": (changed(val_labels=np.arange(3, dtype=np.int64)), READ),
    "leaving its folder": (with_members("../../escaped.npy.txt", "/tmp/e.txt"), READ),
    "black": (changed(val_images=np.zeros((3, 12, 12, 3), np.uint8)), READ),
    "pickle": (pickled, REFUSED),
    "missing key": (lacking, REFUSED),
    "float images": (changed(val_images=np.ones((3, 12, 12, 3))), REFUSED),
    "NaN labels": (changed(val_labels=np.full(3, np.nan)), REFUSED),
    "negative labels": (changed(val_labels=np.array([-1, 0, 1])), REFUSED),
    "large labels": (changed(val_labels=np.array([0, 1, 2**60])), REFUSED),
    "fewer labels": (changed(val_labels=np.zeros(2, np.uint8)), REFUSED),
    "other shape": (changed(val_images=np.ones((3, 9, 9, 3), np.uint8)), REFUSED),
    "3-D": (changed(val_images=np.ones((3, 12, 12, 12, 3), np.uint8)), REFUSED),
    "no pixels": (changed(val_images=np.ones((3, 0, 0, 3), np.uint8)), REFUSED),
    "one number": (changed(val_images=np.uint8(3)), REFUSED),
    "text": (changed(val_labels=np.array(["a", "b", "c"])), REFUSED),
    "claims too much": (claiming("(900000, 900, 900, 3)"), REFUSED),
    "claims overflow": (claiming(f"({2**62}, {2**62}, 3)"), REFUSED),
    "negative shape": (claiming("(-3, 12, 12, 3)"), REFUSED),
    "claims objects": (claiming("(3,)", "|O"), REFUSED),
    "empty": (lambda rng: b"", REFUSED),
    "not a zip": (lambda rng: rng.bytes(900), REFUSED),
    "truncated": (half(changed()), REFUSED),
    "altered": (altered_npz, EITHER),
}


def test_archives(tmp_path):
    rng = np.random.default_rng(5)
    place = tmp_path / "deep" / "er"
    place.mkdir(parents=True)
    path = place / "mine.npz"
    before = sorted(tmp_path.rglob("*"))
    refused = []
    order = [*ARCHIVE_KINDS, *("truncated", "altered") * ARCHIVES][:ARCHIVES]
    for kind in order:
        make, expected = ARCHIVE_KINDS[kind]
        path.write_bytes(make(rng))
        pixels = attempt(lambda: read("medmnist", path).modalities["mine"], path)
        assert expected == EITHER or (pixels is None) == (expected == REFUSED), kind
        refused.append(pixels is None)
    assert not Exploit.ran
    assert sorted(tmp_path.rglob("*")) == [*before, path]
    assert 0.4 < np.mean(refused) < 0.95
