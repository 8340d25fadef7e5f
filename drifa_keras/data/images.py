"""Image files to uint8 arrays."""

from __future__ import annotations

import os
import warnings

import numpy as np
from PIL import Image, ImageOps

from drifa_keras.data._checks import channels_of, check_size

SUFFIXES = frozenset(
    [
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jp2",
        ".pbm",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
# Deep greyscale files rarely use all of their container: scanners write 10 to 14
# bits into 16. The first of these ranges that holds the brightest pixel is taken.
_FULL_SCALES = (255, 1023, 4095, 16383, 65535)


def read_image(
    path: str | os.PathLike, size: tuple[int, int] | None = None, channels: int = 3
) -> np.ndarray:
    """Decode one image file.

    The whole picture is kept: it is squeezed to `size` whatever its aspect ratio,
    with an antialiasing (bicubic, area-aware) filter. EXIF orientation is applied,
    palettes are resolved, transparency is laid over black, CMYK becomes RGB, and
    1-bit images become black and white. Greyscale deeper than 8 bits is scaled
    from the smallest of 8, 10, 12, 14 and 16 bits that holds its brightest pixel.
    Of a file with several frames the first is read.

    Args:
        path: the file.
        size: (height, width) wanted, or None for the size in the file.
        channels: 3 for RGB or 1 for grey.

    Returns:
        uint8 array of shape (height, width, channels).

    Raises:
        ValueError: if the file is missing, truncated, no image, too large to be
            trusted, or has pixel values with no obvious 8-bit meaning.
    """
    path = os.fspath(path)
    channels_of(channels, ["image"])
    if size is not None:
        size = check_size(size)
    if not os.path.isfile(path):
        raise ValueError(f"The image file {path} does not exist; check the path.")
    try:
        with Image.open(path) as image:
            _refuse_bomb(image)
            if size is not None and image.format == "JPEG":
                # Lets libjpeg skip detail that the resize would average away.
                image.draft(None, (2 * size[1], 2 * size[0]))
            deep_colour = any(";16" in str(tile) for tile in image.tile)
            image.load()
            if deep_colour and image.mode[0] not in "IF":
                _refuse_lost_depth(image)
            image = ImageOps.exif_transpose(image)
            image = _to_eight_bits(image, "L" if channels == 1 else "RGB")
            if size is not None and image.size != (size[1], size[0]):
                image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
            pixels = np.array(image, dtype=np.uint8)
    except MemoryError:
        raise
    # The warning arrives here where warnings are turned into errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path}: {_bomb_text('')}") from error
    except _UnusablePixels as error:
        raise ValueError(f"{path}: {error}") from error
    # Decoder plugins raise OSError, SyntaxError, EOFError, struct.error, zlib.error
    # and more for one and the same cause: a file that is not a whole image.
    except Exception as error:
        raise ValueError(
            f"{path} is truncated or not an image ({type(error).__name__}: {error}); "
            "fetch the file again or remove it."
        ) from error
    if not pixels.any():
        warnings.warn(
            f"{path} is black everywhere. An all-zero image means 'absent' here; "
            "remove the file if it shows nothing.",
            stacklevel=2,
        )
    return pixels.reshape(*pixels.shape[:2], channels)


def resize_array(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize one uint8 array (H, W, C) with the filter of `read_image`."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize(
                (size[1], size[0]), Image.Resampling.BICUBIC
            )
        )
        for c in range(pixels.shape[-1])
    ]
    return np.stack(planes, axis=-1)


def resize_nearest(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize masks or label maps (n, H, W); each pixel takes the nearest value."""
    if maps.shape[1:] == tuple(size):
        return maps
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for old, new in zip(maps.shape[1:], size, strict=True)
    )
    return maps[:, rows][:, :, columns]


class _UnusablePixels(Exception):
    """Pixel values that cannot be mapped to 0..255 without guessing."""


def _bomb_text(size: str) -> str:
    return (
        f"the image {size}is larger than {Image.MAX_IMAGE_PIXELS} pixels and was "
        "refused as a possible decompression bomb; shrink it, or raise "
        "PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )


def _refuse_bomb(image: Image.Image) -> None:
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise _UnusablePixels(_bomb_text(f"({width} x {height}) "))


def _refuse_lost_depth(image: Image.Image) -> None:
    # Of 16 bits a colour channel Pillow keeps the upper 8: a picture in the lower 10
    # to 14 bits would come out black, and what was lost cannot be scaled back.
    bands = image.getextrema()
    bands = bands if isinstance(bands[0], tuple) else (bands,)
    colours = bands[:-1] if image.mode in ("LA", "RGBA") else bands
    brightest = max(high for _, high in colours)
    if brightest < 64:
        raise _UnusablePixels(
            f"it has 16 bits a colour channel and uses at most 14 of them (about "
            f"{brightest * 256} of 65535 at the brightest); expected the full range, "
            "so rescale the file or save it with 8 bits."
        )


def _to_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_scale_deep(np.asarray(image), image.mode))
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if transparent or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
    elif image.mode not in ("L", "RGB", "1"):
        image = image.convert("RGB")  # palette, CMYK, YCbCr, LAB, HSV
    return image if image.mode == mode else image.convert(mode)


def _scale_deep(values: np.ndarray, mode: str) -> np.ndarray:
    values = values.astype(np.float64)
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if not np.isfinite([low, high]).all() or low < 0 or high > _FULL_SCALES[-1]:
        raise _UnusablePixels(
            f"pixel values run from {low:g} to {high:g} (mode {mode}), which has no "
            "set meaning in 8 bits; expected 0..65535, so rescale the file (for CT, "
            "apply a window) first."
        )
    if mode == "F" and high <= 1.0:
        full = 1.0
    else:
        full = next(scale for scale in _FULL_SCALES if high <= scale)
    return np.round(values * (255.0 / full)).astype(np.uint8)
