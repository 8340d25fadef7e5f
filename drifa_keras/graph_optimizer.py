"""Training steps without the graph optimiser of TensorFlow."""

import functools

import keras


def without_graph_optimizer(step):
    """A training step that TensorFlow runs as it was traced, where there is no GPU.

    On CPUs its graph optimiser makes a step of these networks no faster, the first one
    longer by half or more, and makes it keep more memory. It also decides differently
    from one process to the next, so that the same seed gave other networks.

    Args:
        step: Function of one argument, which calls a `tf.function`.

    Returns:
        `step` itself on other backends and where there is a GPU, else a function that
        does the same and leaves TensorFlow's options as they were.
    """
    if keras.backend.backend() != "tensorflow":
        return step
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return step
    options = tf.config.optimizer

    @functools.wraps(step)
    def run(data):
        before = options.get_experimental_options().get("min_graph_nodes", 0)
        # Not `disable_meta_optimizer`, which keeps several times the memory.
        options.set_experimental_options({"min_graph_nodes": 2**31 - 1})
        try:
            return step(data)
        finally:
            options.set_experimental_options({"min_graph_nodes": before})

    return run
