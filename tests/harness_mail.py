"""Reads the weights of MAIL's layers as the symbols of `oracle_mail`.

The draws of random layers are read too, with `freeze_randomness` in force.
"""

import numpy as np
from keras import ops

import oracle
import oracle_mail
from harness import as_numpy, exact


def norm_symbols(norm, channels=slice(None)):
    """The arguments of `oracle.batch_norm`."""
    return (
        exact(norm.gamma)[channels],
        exact(norm.beta)[channels],
        exact(norm.moving_mean)[channels],
        exact(norm.moving_variance)[channels],
        norm.epsilon,
    )


def grouped(dense, groups):
    """The blocks of a block-diagonal kernel, beside one another."""
    rows, columns = dense.shape[-2] // groups, dense.shape[-1] // groups
    blocks = [
        dense[..., i * rows : (i + 1) * rows, i * columns : (i + 1) * columns]
        for i in range(groups)
    ]
    return np.concatenate(blocks, axis=-1)


def expected_msgdc(layer, x):
    """What an MSGDC layer should give, with the filters that it draws just then."""
    channels, filters = x.shape[-1], layer.filters
    branches = (layer.pointwise, layer.depthwise3, layer.depthwise5)
    if layer.random_ratio:
        pointwise, *depthwise = (exact(branch.draw_kernel()) for branch in branches)
        pointwise = grouped(pointwise, layer.groups)
    else:
        pointwise, *depthwise = (exact(branch.kernel) for branch in branches)
    kernels = [pointwise, *(k[..., 0] for k in depthwise), exact(layer.kernel)]
    ends = np.cumsum([filters, channels, channels])
    biases = (0.0, 0.0, 0.0, 0.0)
    if layer.use_bias:
        biases = np.split(exact(layer.bias), ends)
    branch_norms = None
    if layer.normalization == "all":
        starts = [0, *ends[:-1]]
        branch_norms = [
            norm_symbols(layer.branch_norm, slice(start, end))
            for start, end in zip(starts, ends, strict=True)
        ]
    norm = norm_symbols(layer.norm) if layer.normalization else None
    return oracle_mail.msgdc(
        x,
        kernels,
        layer.groups,
        layer.fuse_groups,
        layer.strides,
        biases,
        branch_norms,
        norm,
    )


def noise_function(layer, shape):
    """AttentionNoise with the draw in force, as a function; None for no layer."""
    if layer is None:
        return None
    released, layer.released = layer.released, False
    w = float(as_numpy(layer.weight))
    # Without the clip: x + w n at x = 0.
    n = exact(layer(ops.zeros((1, *shape)))) / w
    layer.released = released
    form = oracle_mail.released_noise if released else oracle_mail.paper_noise
    return form(w, n)


def expected_channel_attention(layer, x):
    """What ChannelAttention should give, as (B, C)."""
    w1, w2 = exact(layer.kernel)
    bias = exact(layer.bias)
    return oracle_mail.channel_attention(
        x,
        w1,
        bias[: w1.shape[1]],
        w2.T,
        bias[w1.shape[1] :],
        float(as_numpy(layer.scale)),
        sum_pool="sum" if layer.released else "mean",
        noise=noise_function(layer.noise, x.shape[-1:]),
    )


def conv_function(conv, norm=None, strides=1):
    """A Conv2D with the BatchNormalization behind it as a function of a map."""
    kernel = exact(conv.kernel)
    bias = exact(conv.bias) if conv.use_bias else 0.0

    def function(x):
        y = oracle.conv2d(x, kernel, bias, strides)
        return y if norm is None else oracle.batch_norm(y, *norm_symbols(norm))

    return function


def expected_emila(layer, x):
    """What EMILA should give."""
    u = expected_msgdc(layer.msgdc, x)
    return oracle_mail.emila(
        u,
        expected_channel_attention(layer.attention, u),
        conv_function(layer.projection, layer.norm, layer.strides)(x),
        noise=noise_function(layer.noise, u.shape[1:]),
        released=layer.released,
    )


def expected_erla_block(layer, x):
    """What ERLABlock should give."""
    shortcut = None
    if layer.shortcut_conv is not None:
        shortcut = conv_function(
            layer.shortcut_conv, layer.shortcut_norm, layer.strides
        )
    return oracle_mail.erla_block(
        x,
        lambda y: expected_emila(layer.emila1, y),
        norm_symbols(layer.norm1),
        lambda y: expected_emila(layer.emila2, y),
        conv_function(layer.conv),
        norm_symbols(layer.norm2),
        shortcut,
    )


def expected_mfifa(layer, xs, presence=None):
    """What MFIFA should give."""
    return oracle_mail.mfifa(
        xs,
        exact(layer.kernel)[0],
        exact(layer.bias)[0],
        *exact(layer.scales),
        spatial=layer.dct == "spatial",
        presence=presence,
    )


def expected_emsca(layer, xs, presence=None):
    """What EMSCA should give, as (B, C)."""

    def m(x):
        return expected_msgdc(layer.msgdc, x)

    return oracle_mail.emsca(xs, m, exact(layer.scales), presence, layer.released)


def expected_emcam(layer, xs, presence=None):
    """What EMCAM should give."""
    count, channels = len(xs), xs[0].shape[-1]
    omega = exact(layer.omega)
    symbols, start = {}, 0
    if layer.mfifa is not None:
        symbols["a_f"] = expected_mfifa(layer.mfifa, xs, presence)
        symbols["g"], start = omega[0], 1
    if layer.emsca is not None:
        symbols["a_s"] = expected_emsca(layer.emsca, xs, presence)
        if layer.released:
            symbols["w"] = exact(layer.emsca.scales)[0]
        else:
            symbols["w"], start = omega[start : start + channels], start + channels
    assert omega.shape == (start + count * channels,)
    gate = attention = oracle_mail.emcam_attention(**symbols)
    if layer.noise is not None:
        gate = noise_function(layer.noise, attention.shape[1:])(attention)
        if layer.released:
            gate = attention * gate**5
    return oracle_mail.emcam(xs, gate, omega[start:].reshape(count, -1), presence)
