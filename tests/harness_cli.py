"""The `drifa` command, called as the console script calls it."""

import contextlib
import io
import sys

import keras
import pytest

import drifa_cli

TINY = {
    "data": {
        "sources": [{"reader": "phantoms", "options": {"n": 120, "image_size": 16}}],
        "image_size": 16,
    },
    "model": {
        "preset": "drifa_tiny",
        "arguments": {
            "filters": [4],
            "dropout_after": [],
            "mfa": False,
            "mifa": {"mgifa": False},
        },
    },
    "training": {"epochs": 3, "batch_size": 8, "pairs_per_epoch": 16},
    "evaluation": {"bootstrap": 10, "partner_draws": 2},
}


def drifa(*arguments, folder=None):
    """Run the command in this process: exit code, standard output, standard error."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", keras.backend.backend())
        patch.setattr(sys, "argv", ["drifa", *map(str, arguments)])
        if folder is not None:
            patch.chdir(folder)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                drifa_cli.main()
            except SystemExit as exit_:
                code = exit_.code or 0
    return code, out.getvalue(), err.getvalue()
