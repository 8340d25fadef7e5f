"""The equations of DRIFA-Net in plain NumPy, float64, to test the layers against.

Written from the equations alone; nothing here knows how the package computes or
stores anything. Clarity counts, speed does not. Maps are (batch, height, width,
channels). A matrix `w` is stored (channels in, channels out), so "W x" at a pixel is
`x @ w`.
"""

import math

import numpy as np

POOLINGS = ("max", "avg", "min")


def sigmoid(z):
    """The logistic function, without overflow."""
    z = np.asarray(z, "float64")
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + small), small / (1 + small))


def linear(z):
    """No activation."""
    return z


def relu(z):
    """The positive part."""
    return np.maximum(z, 0.0)


ACTIVATIONS = {"sigmoid": sigmoid, "relu": relu, None: linear}


def pool(x, how):
    """Mean, max or min of each channel over the whole map: (B, H, W, C) -> (B, C)."""
    x = np.asarray(x, "float64")
    result = np.zeros((x.shape[0], x.shape[3]))
    for sample in range(x.shape[0]):
        for channel in range(x.shape[3]):
            values = x[sample, :, :, channel].ravel().tolist()
            if how == "max":
                result[sample, channel] = max(values)
            elif how == "min":
                result[sample, channel] = min(values)
            else:
                result[sample, channel] = math.fsum(values) / len(values)
    return result


def pool_windows(x, how, window):
    """The same over window x window cells around each cell, those off the map left out.

    (B, H, W, C) -> (B, H, W, C).
    """
    x = np.asarray(x, "float64")
    reach = window // 2
    _, height, width, _ = x.shape
    result = np.zeros(x.shape)
    for row in range(height):
        for column in range(width):
            cells = x[
                :,
                max(row - reach, 0) : min(row + reach, height - 1) + 1,
                max(column - reach, 0) : min(column + reach, width - 1) + 1,
                :,
            ]
            result[:, row, column, :] = pool(cells, how)
    return result


def global_min_pooling(x, keepdims=False):
    """The least value of each channel."""
    result = pool(x, "min")
    return result[:, None, None, :] if keepdims else result


def hifa(x, w, b, wf, bf, activation=sigmoid):
    """HIFA (Eq. 1-2, Algorithm 1b): (B, H, W, C) -> (B, C).

    `w`, `b`: the four C x C matrices and biases; `wf`, `bf`: 2C x C and C.
    """
    u1 = activation(x @ w[0] + b[0])
    u2 = activation(u1 @ w[1] + b[1])
    u3 = activation((u1 + u2) @ w[2] + b[2])
    u4 = activation(u3 @ w[3] + b[3])
    l0, l1 = pool(u1, "avg"), pool(u2, "max")
    l2, l3 = pool(u3, "avg"), pool(u4, "max")
    return activation(np.concatenate([l0 + l1, l2 + l3], axis=-1) @ wf + bf)


def clia(x, v, c):
    """CLIA (Eq. 3): (B, H, W, C) -> (B, C); `v`, `c`: two matrices and biases."""
    v1 = pool(sigmoid(x @ v[0] + c[0]), "avg")
    v2 = sigmoid(v1 @ v[1] + c[1])
    return v1 + v2


def mfa(x, hifa=None, clia=None, omega_d=1.0, omega_l=1.0, omega_c=1.0):
    """MFA (Eq. 4) from the descriptors of its branches, None for one left out.

    `hifa`, `clia`: the d and l of this x, (B, C) each, as the functions above give.
    """
    gate = 0.0
    if hifa is not None:
        gate = gate + omega_d * hifa
    if clia is not None:
        gate = gate + omega_l * clia
    a = sigmoid(gate)
    return np.asarray(x, "float64") * a[:, None, None, :] * omega_c


def stream_weights(presence, samples, streams):
    """r_i m / sum r, (B, m): what each stream counts for in a sum over the streams."""
    if presence is None:
        return np.ones((samples, streams))
    result = np.zeros((samples, streams))
    for sample in range(samples):
        present = sum(float(presence[sample][i]) for i in range(streams))
        for i in range(streams):
            result[sample, i] = streams * float(presence[sample][i]) / present
    return result


def sum_streams(terms, presence=None):
    """The sum over i, with absent streams left out and the rest scaled up."""
    weights = stream_weights(presence, len(terms[0]), len(terms))
    total = np.zeros(terms[0].shape)
    for i, term in enumerate(terms):
        for sample in range(len(term)):
            total[sample] += weights[sample, i] * term[sample]
    return total


def mgifa(xs, f, f_bias, presence=None):
    """MGIFA (Eq. 6): m maps (B, H, W, C) -> g (B, C).

    `f`, `f_bias`: dicts from pooling to matrix and bias.
    """
    g = 0.0
    for how in POOLINGS:
        pooled = sum_streams([pool(x, how) for x in xs], presence)
        g = g + sigmoid(pooled @ f[how] + f_bias[how])
    return g


def mlifa(xs, k, k_bias, window=3, presence=None):
    """MLIFA (Eq. 7) with windows, the paper's: m maps -> l (B, H, W, C)."""
    local = 0.0
    for how in POOLINGS:
        pooled = sum_streams([pool_windows(x, how, window) for x in xs], presence)
        local = local + sigmoid(pooled @ k[how] + k_bias[how])
    return local


def mlifa_global(xs, k, k_bias, presence=None):
    """MLIFA as released: m maps -> l (B, 1, 1, C); `k`, `k_bias`: one per stream."""
    terms = []
    for x, matrix, bias in zip(xs, k, k_bias, strict=True):
        u = sigmoid(np.asarray(x, "float64") @ matrix + bias)
        terms.append(pool(u, "max") + pool(u, "avg") + pool(u, "min"))
    return sum_streams(terms, presence)[:, None, None, :]


def mifa(xs, g=None, local=None, omega_d=1.0, omega_l=1.0, omega_c=None, presence=None):
    """MIFA (Eq. 5, 8) from the descriptors of its branches, None for one left out.

    `g`: (B, C); `local`: (B, H, W, C) or (B, 1, 1, C); `omega_c`: m vectors or None.
    """
    gate = 0.0
    if g is not None:
        gate = gate + omega_d * g[:, None, None, :]
    if local is not None:
        gate = gate + omega_l * local
    a = sigmoid(gate)
    streams = []
    for i, x in enumerate(xs):
        stream = np.asarray(x, "float64") * a
        if omega_c is not None:
            stream = stream * omega_c[i]
        if presence is not None:
            for sample in range(len(stream)):
                if not presence[sample][i]:
                    stream[sample] = 0.0
        streams.append(stream)
    return streams


def released_mgifa(x1, x2, f, f_bias):
    """MGIFA as released, for two streams: one matrix for the three poolings."""
    g_max = sigmoid((pool(x1, "max") + pool(x2, "max")) @ f + f_bias)
    g_avg = sigmoid((pool(x1, "avg") + pool(x2, "avg")) @ f + f_bias)
    g_min = sigmoid((pool(x1, "min") + pool(x2, "min")) @ f + f_bias)
    return g_max + g_avg + g_min


def released_mlifa(x1, x2, k1, k1_bias, k2, k2_bias):
    """MLIFA as released, for two streams: (B, C), no windows, no further layer."""
    u1, u2 = sigmoid(x1 @ k1 + k1_bias), sigmoid(x2 @ k2 + k2_bias)
    l_max = pool(u1, "max") + pool(u2, "max")
    l_avg = pool(u1, "avg") + pool(u2, "avg")
    l_min = pool(u1, "min") + pool(u2, "min")
    return l_max + l_avg + l_min


def released_mifa(x1, x2, g, local, omega_d, omega_l, omega_c1, omega_c2):
    """MIFA as released, for two streams, from the two descriptors above."""
    a = sigmoid(omega_d * g + omega_l * local)[:, None, None, :]
    return x1 * a * omega_c1, x2 * a * omega_c2


def conv2d(x, kernel, bias, strides=1):
    """A convolution with 'same' padding, the odd row or column put at the end."""
    x = np.asarray(x, "float64")
    samples, height, width, _ = x.shape
    rows, columns, _, filters = kernel.shape
    out_height, out_width = math.ceil(height / strides), math.ceil(width / strides)
    pad_height = max((out_height - 1) * strides + rows - height, 0)
    pad_width = max((out_width - 1) * strides + columns - width, 0)
    top, left = pad_height // 2, pad_width // 2
    padded = np.pad(
        x,
        ((0, 0), (top, pad_height - top), (left, pad_width - left), (0, 0)),
    )
    result = np.zeros((samples, out_height, out_width, filters))
    for row in range(out_height):
        for column in range(out_width):
            cells = padded[
                :,
                row * strides : row * strides + rows,
                column * strides : column * strides + columns,
                :,
            ]
            result[:, row, column, :] = np.einsum("bijc,ijcf->bf", cells, kernel) + bias
    return result


def max_pool(x):
    """A 3x3 pool of stride 2 with 'same' padding."""
    samples, height, width, channels = x.shape
    rows, columns = -(-height // 2), -(-width // 2)
    top = max((rows - 1) * 2 + 3 - height, 0) // 2
    left = max((columns - 1) * 2 + 3 - width, 0) // 2
    result = np.full((samples, rows, columns, channels), -np.inf)
    for row in range(rows):
        for column in range(columns):
            first, start = max(2 * row - top, 0), max(2 * column - left, 0)
            cells = x[:, first : 2 * row - top + 3, start : 2 * column - left + 3, :]
            result[:, row, column] = cells.max(axis=(1, 2))
    return result


def batch_norm(x, gamma, beta, mean, variance, epsilon):
    """Batch normalisation at inference."""
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def rra_block(x, conv1, mfa1, norm1, conv2, mfa2, norm2, shortcut=None, strides=1):
    """The RRA block (Fig. 1C) at inference.

    `conv1`, `conv2`: (kernel, bias); `norm1`, `norm2`: the arguments of `batch_norm`;
    `mfa1`, `mfa2`: functions from map to map; `shortcut`: None for the identity, else
    (kernel, bias, arguments of `batch_norm`).
    """
    y = conv2d(x, *conv1, strides=strides)
    y = relu(batch_norm(mfa1(y), *norm1))
    y = batch_norm(mfa2(conv2d(y, *conv2)), *norm2)
    if shortcut is not None:
        kernel, bias, norm = shortcut
        x = batch_norm(conv2d(x, kernel, bias, strides=strides), *norm)
    return relu(y + x)
