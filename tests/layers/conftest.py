"""Quick compilation for the layers' tests, which run each program once."""

import keras
import pytest


@pytest.fixture(scope="module", autouse=True)
def compile_quickly():
    """On JAX most of the time would go into optimising programs of a few numbers."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
