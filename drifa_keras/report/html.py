"""The report of a run: one file that any browser opens, without a network."""

from __future__ import annotations

import base64
import zipfile
import zlib
from importlib import metadata
from pathlib import Path

import jinja2

from drifa_keras.report.contents import Contents
from drifa_keras.report.document import Picture, Section
from drifa_keras.report.sections import SECTIONS
from drifa_keras.report.style import to_webp
from drifa_keras.runs import Run

_TEMPLATES = Path(__file__).parent / "templates"
# An inch of a figure, as browsers have it.
_PIXELS = 96
# Wider figures scroll on a phone.
_WIDE = 560


# What comes of files whose content is not that of a run.
_NOT_AS_WRITTEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_report(run: Run, path: str | Path | None = None) -> Path:
    """Writes what is known of a run into one self-contained HTML file.

    The file needs no network: figures are part of it. Sections whose input the run
    folder lacks name the command that makes it.

    Args:
        run: The run.
        path: The file to write; `report.html` in the run folder by default.

    Returns:
        The path of the file.

    Raises:
        ValueError: If a file of the run cannot be read.
    """
    path = run.folder / "report.html" if path is None else Path(path)
    contents = Contents(run)
    try:
        sections = [section(contents) for section in SECTIONS]
    except _NOT_AS_WRITTEN as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"A file of {run.folder} is not what `drifa` wrote there "
            f"({type(error).__name__}: {reason}). Run the command that writes it again."
        ) from error
    path.write_text(render(f"Report on {run.config.name}", sections), encoding="utf-8")
    return path


def render(title: str, sections: list[Section]) -> str:
    """The HTML of a report.

    Args:
        title: Its title.
        sections: Its sections. Whatever their text contains comes out as text.

    Returns:
        A whole HTML document.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        sections=sections,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        version=metadata.version("drifa_keras"),
        image=_image,
    )


def _image(picture: Picture) -> dict:
    """Source and size of a picture."""
    data = to_webp(picture.figure, picture.photographs)
    width, height = (round(_PIXELS * inch) for inch in picture.figure.get_size_inches())
    return {
        "src": f"data:image/webp;base64,{base64.b64encode(data).decode()}",
        "width": width,
        "height": height,
        "wide": width > _WIDE,
    }
