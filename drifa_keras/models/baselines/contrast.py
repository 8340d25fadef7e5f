"""The contrast of a batch: which image belongs to which."""

from keras import ops


def contrast(similarity, both=None):
    """Symmetric cross-entropy of a similarity matrix whose diagonal is to win.

    Args:
        similarity: `(batch, batch)`.
        both: 0/1 tensor `(batch,)` of the samples that take part, all by default.

    Returns:
        Scalar: that of the rows with that of the columns, each a mean over samples.
    """
    if both is None:
        both = ops.ones_like(similarity[:, 0])
    # A sample that takes no part is nobody's match.
    similarity = ops.where(both[:, None] * both[None, :] > 0, similarity, -1e9)
    total = 0.0
    for axis in (0, 1):
        own = ops.diagonal(ops.log_softmax(similarity, axis=axis))
        total -= ops.sum(both * own) / ops.maximum(ops.sum(both), 1.0)
    return total


def unit(x):
    """Vectors `(..., dim)` at length 1; of zeros, which stay, the gradient is 0."""
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    long = square > 0
    # `ops.normalize` has a gradient of NaN there: the factor would be infinite.
    return ops.where(long, x * ops.rsqrt(ops.where(long, square, 1.0)), 0.0)
