import numpy as np
import PIL
import pytest
from PIL import Image

from drifa_keras.data import read_image


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (4, 6, 3), dtype=np.uint8))
    return small.resize((90, 60), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg", "gif", "webp"])
def test_formats_and_channels(tmp_path, photo, suffix):
    path = tmp_path / f"a.{suffix}"
    photo.save(path)
    pixels = read_image(path)
    assert pixels.shape == (60, 90, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(float) - np.asarray(photo)).mean() < 12
    grey = read_image(path, (30, 45), channels=1)
    assert grey.shape == (30, 45, 1) and grey.std() > 5


plain_ycbcr = pytest.param(
    "YCbCr",
    marks=pytest.mark.skipif(
        int(PIL.__version__.split(".")[0]) < 13,
        reason="Pillow before 13 cannot read its own plain YCbCr files",
    ),
)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA", plain_ycbcr])
def test_modes_agree_with_rgb(tmp_path, photo, mode):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    image = photo.convert(mode)
    image.save(path)
    expected = np.asarray(image.convert("RGB"), float)
    assert np.abs(read_image(path) - expected).mean() < 2


def test_transparency_lies_on_black(tmp_path):
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[:2, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png")
    assert got[0, 0].tolist() == [0, 0, 0]
    assert 150 < got[3, 3, 0] < 165  # 200 at an opacity of 200 / 255


@pytest.mark.parametrize(("high", "expected"), [(65535, 128), (4095, 128), (255, 128)])
def test_sixteen_bits(tmp_path, high, expected):
    values = np.full((8, 8), high // 2 + 1, np.uint16)
    values[0, 0] = high
    Image.fromarray(values).save(tmp_path / "a.png")
    assert abs(int(read_image(tmp_path / "a.png", channels=1)[4, 4, 0]) - expected) <= 1


def test_negative_pixels_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), -1000, np.int32)).save(tmp_path / "ct.tif")
    with pytest.raises(ValueError, match=r"ct\.tif.*-1000.*window"):
        read_image(tmp_path / "ct.tif")


def test_exif_orientation(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    photo.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (90, 60, 3)


def test_resize_is_antialiased(tmp_path):
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    small = read_image(tmp_path / "a.png", (16, 16), channels=1)
    assert abs(small.astype(int) - 127).max() <= 2


def test_jpeg_shortcut_changes_little(tmp_path, photo):
    big = photo.resize((600, 450), Image.Resampling.BICUBIC)
    big.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        slow = image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    fast = read_image(tmp_path / "a.jpg", (32, 32))
    assert np.abs(fast - np.asarray(slow, float)).max() < 6


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("keep", [0.6, 0.02])
def test_truncated_file(tmp_path, suffix, keep):
    rng = np.random.default_rng(0)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match=r"cut\..*(truncated|not an image)") as caught:
        read_image(path, (32, 32))
    assert "\n" not in str(caught.value)


def test_not_an_image_missing_and_empty(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(ValueError, match=f"{name}.*fetch the file again"):
            read_image(tmp_path / name)
    with pytest.raises(ValueError, match="does not exist"):
        read_image(tmp_path / "gone.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb(tmp_path, monkeypatch):
    Image.new("L", (100, 100), 9).save(tmp_path / "a.png")
    for limit in (9_000, 100):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match="decompression bomb"):
            read_image(tmp_path / "a.png")


def test_black_file_is_not_silent(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="black everywhere"):
        read_image(tmp_path / "a.png")


def test_bad_arguments(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="channels=2"):
        read_image(tmp_path / "a.png", channels=2)
    with pytest.raises(ValueError, match="image_size"):
        read_image(tmp_path / "a.png", size=32)
