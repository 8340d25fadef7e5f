"""The equations of MAIL and Robust-MAIL in plain NumPy, float64, to test against.

Written from the description of the authors' code alone, term by term: nothing is
simplified, even where terms cancel. Maps are (batch, height, width, channels), a
matrix is stored (channels in, channels out), and the kernel of a grouped convolution
(rows, columns, channels in a group, filters), group after group.
"""

import math

import numpy as np

from oracle import batch_norm, conv2d, pool, relu, sigmoid, sum_streams


def grouped_conv2d(x, kernel, groups, strides=1):
    """A convolution without bias, each group of channels on its own."""
    rows = x.shape[-1] // groups
    columns = kernel.shape[-1] // groups
    return np.concatenate(
        [
            conv2d(
                x[..., group * rows : (group + 1) * rows],
                kernel[..., group * columns : (group + 1) * columns],
                0.0,
                strides,
            )
            for group in range(groups)
        ],
        axis=-1,
    )


def depthwise_conv2d(x, kernel, strides=1):
    """One filter a channel, no bias; `kernel` is (rows, columns, channels)."""
    return np.concatenate(
        [
            conv2d(x[..., c : c + 1], kernel[:, :, c][:, :, None, None], 0.0, strides)
            for c in range(x.shape[-1])
        ],
        axis=-1,
    )


def shuffle(x, groups):
    """The channel shuffle: channel j of group i goes to place j * groups + i."""
    size = x.shape[-1] // groups
    result = np.zeros(x.shape)
    for i in range(groups):
        for j in range(size):
            result[..., j * groups + i] = x[..., i * size + j]
    return result


def msgdc(
    x,
    kernels,
    groups,
    fuse_groups=2,
    strides=1,
    biases=(0.0, 0.0, 0.0, 0.0),
    branch_norms=None,
    norm=None,
):
    """Sec. 3.1: `kernels` and `biases` of GPC, DWC 3x3, DWC 5x5 and the fusion.

    `branch_norms`, `norm`: the arguments of `batch_norm`, three of them and one.
    """
    branches = [
        grouped_conv2d(x, kernels[0], groups, strides) + biases[0],
        depthwise_conv2d(x, kernels[1], strides) + biases[1],
        depthwise_conv2d(x, kernels[2], strides) + biases[2],
    ]
    if branch_norms is not None:
        branches = [
            batch_norm(b, *n) for b, n in zip(branches, branch_norms, strict=True)
        ]
    joined = np.concatenate(branches, axis=-1)
    if fuse_groups > 1:
        joined = shuffle(joined, groups)
    u = grouped_conv2d(joined, kernels[3][None, None], fuse_groups) + biases[3]
    return u if norm is None else batch_norm(u, *norm)


def channel_attention(x, w1, b1, w2, b2, g, sum_pool="mean", noise=None):
    """Sec. 3.2: map -> se (B, C). `noise` maps the logits to what follows them."""
    _, height, width, _ = x.shape
    gmn, gap, gmp = pool(x, "min"), pool(x, "avg"), pool(x, "max")
    gsp = gap * (height * width) if sum_pool == "sum" else gap
    add = gmn + gap + gmp + gsp
    sub = gmp - gap - gmn
    logits = relu((add + sub) @ w1 + b1) @ w2 + b2
    if noise is not None:
        logits = noise(logits)
    return sigmoid(g * logits)


def emila(u, se, projected, noise=None, released=False):
    """Sec. 3.2 and 4.2, from u, se and the normalised projection of the input.

    `noise`: a function of the map, for Robust-MAIL; with `released` its odd ending.
    """
    se = se[:, None, None, :]
    y = relu(projected + u * se)
    if noise is None:
        return y
    y = noise(y)
    return u * (y * se) ** 3 if released else y


def erla_block(x, emila1, norm1, emila2, conv, norm2, shortcut=None):
    """Sec. 3.4: `emila1`, `emila2`, `conv` and `shortcut` are functions of a map."""
    z = relu(batch_norm(emila1(x), *norm1))
    z = batch_norm(conv(emila2(z)), *norm2)
    return relu(z + (x if shortcut is None else shortcut(x)))


def paper_noise(w, n):
    """Zero-mean modulated noise as a function of what it is added to."""
    return lambda x: x + w * n


def released_noise(w, n):
    """The released form (Sec. 4.2), clip included."""
    return lambda x: np.clip(x + n * (w + n * w), 0.0, 1.0)


def dct(x, axis):
    """The orthonormal DCT-II along one axis, from its definition."""
    x = np.moveaxis(np.asarray(x, "float64"), axis, -1)
    size = x.shape[-1]
    result = np.zeros(x.shape)
    for k in range(size):
        scale = math.sqrt((1 if k == 0 else 2) / size)
        for n in range(size):
            angle = math.pi * (n + 0.5) * k / size
            result[..., k] += scale * x[..., n] * math.cos(angle)
    return np.moveaxis(result, -1, axis)


def mfifa(xs, w, b, m1, m2, m3, spatial=False, presence=None):
    """Sec. 3.5, MFIFA: m maps -> A_f (B, H, W, C)."""
    highs, lows, means = [], [], []
    for x in xs:
        d = dct(dct(x, 1), 2) if spatial else dct(x, 3)
        h1 = sigmoid(pool(d, "max") @ w + b)[:, None, None, :]
        l1 = sigmoid(pool(d, "avg") @ w + b)[:, None, None, :]
        l2 = sigmoid(pool(d, "min") @ w + b)[:, None, None, :]
        high = h1 + (h1 - l1) + (d - l2)
        low = l1 + l2 + np.zeros(d.shape)
        highs.append(m1 * high)
        lows.append(m2 * low)
        means.append(m3 * (high - low))
    return sigmoid(
        sum_streams(highs, presence)
        + sum_streams(lows, presence)
        + sum_streams(means, presence)
    )


def _pooled(y):
    return pool(y, "max") + pool(y, "avg")


def emsca(xs, m, scales, presence=None, released=False):
    """Sec. 3.5, EMSCA: m maps -> A_s (B, C).

    `m`: MSGDC' as a function of a map; `scales`: one vector a modality. `released`:
    later modalities see the updated ones.
    """
    s = [_pooled(m(x)) for x in xs]
    refined = [_pooled(m(own[:, None, None, :])) for own in s]
    crossed = []
    for i, t in enumerate(refined):
        seen = (crossed + s[i:]) if released else s
        if presence is None:
            others = sum(seen[j] for j in range(len(s)) if j != i)
            crossed.append(s[i] + t + others)
        else:
            # s_i and the others are one sum over the modalities.
            crossed.append(t + sum_streams(seen, presence))
    weighted = [scales[i] * value for i, value in enumerate(crossed)]
    return sigmoid(sum_streams(weighted, presence))


def released_emsca(x1, x2, m, w1, w2):
    """EMSCA as released, for two modalities: the second sees the first's update."""
    s1, s2 = _pooled(m(x1)), _pooled(m(x2))
    t1 = _pooled(m(s1[:, None, None, :]))
    t2 = _pooled(m(s2[:, None, None, :]))
    s1 = s1 + t1 + s2
    s2 = s2 + t2 + s1
    return sigmoid(s1 * w1 + s2 * w2)


def emcam_attention(a_f=None, a_s=None, g=1.0, w=1.0):
    """Sec. 3.5: the attention A, from A_f (B, H, W, C) and A_s (B, C), if there."""
    logits = 0.0
    if a_f is not None:
        logits = logits + g * a_f
    if a_s is not None:
        logits = logits + (w * a_s)[:, None, None, :]
    return sigmoid(logits)


def emcam(xs, gate, alphas, presence=None):
    """Sec. 3.5: x_i * gate * alpha_i, zeros for what is absent."""
    streams = []
    for i, x in enumerate(xs):
        stream = np.asarray(x, "float64") * gate * alphas[i]
        for sample in range(len(stream)):
            if presence is not None and not presence[sample][i]:
                stream[sample] = 0.0
        streams.append(stream)
    return streams
