"""What reading the source needs to know of this package: for the API pages."""

import re

import griffe


class PackageDocstrings(griffe.Extension):
    """Reads Keras' docstrings, and functions that share their module's name."""

    def on_object(self, *, obj, **kwargs):
        """Makes "Call arguments:", as Keras writes it, a section of its own."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Call arguments:$",
                "Other Parameters: Call arguments:",
                obj.docstring.value,
                flags=re.MULTILINE,
            )

    def on_module(self, *, mod, **kwargs):
        """Exports the function where a package imports it over its module.

        `from drifa_keras.explain.grad_cam import grad_cam` in a package makes the
        name that of the function; without running it, the module is found first.
        """
        for name in map(str, mod.exports or ()):
            found = mod.members[name]
            if not found.is_alias and found.is_module and name in found.members:
                mod.members[name] = griffe.Alias(name, found.members[name], parent=mod)
