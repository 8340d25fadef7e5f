"""Multi-scale group depthwise convolution: MAIL, Fig. 2G."""

import keras
from keras import ops

from drifa_keras.layers._mail import (
    block_diagonal,
    pointwise_conv,
    require_groups,
    require_positive,
    strided_shape,
)
from drifa_keras.layers._packing import require_map
from drifa_keras.layers.random_projection_conv2d import RandomProjectionConv2D
from drifa_keras.layers.random_projection_depthwise_conv2d import (
    RandomProjectionDepthwiseConv2D,
)

_NORMALIZATIONS = ("output", "all", None)


@keras.saving.register_keras_serializable(package="drifa_keras")
class MSGDC(keras.layers.Layer):
    """Multi-scale group depthwise convolution.

    A grouped 1x1 convolution (GPC) and two depthwise ones (DWC), whose channels are
    joined, shuffled across the groups and fused by another grouped 1x1 convolution:

    ```
    b1 = GPC(x; groups)      b2 = DWC3x3(x)      b3 = DWC5x5(x)
    u  = BN(PW(shuffle([b1, b2, b3]); fuse_groups))
    ```

    With `random_ratio`, a share of the filters of b1, b2 and b3 is random, see
    `RandomProjectionConv2D`.

    Reference: Dhar et al., *Effective and Robust Multimodal Medical Image Analysis*,
    KDD 2026, Fig. 2G and 4E; groups and normalisation as in the released code.

    Args:
        filters: Channels of the output, a multiple of `groups` and `fuse_groups`.
        strides: Stride of b1, b2 and b3.
        groups: Number of groups of b1, and of the shuffle.
        fuse_groups: Number of groups of the fusing convolution. With 1 there is no
            shuffle, which would only reorder its rows.
        normalization: `"output"` (u, as in MAIL), `"all"` (b1, b2 and b3 too, as in
            Robust-MAIL) or `None`.
        use_bias: Whether all four convolutions have biases. Normalisation takes them
            off again; the released code has them.
        random_ratio: Share of random filters, from 0 to below 1.
        norm_momentum: Momentum of the running statistics of batch normalisation.
        kernel_initializer: Initializer of the convolutions.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: Feature map of shape `(batch, height, width, channels)`, with a multiple of
            `groups` channels.
        training: Whether batch normalisation uses the statistics of the batch.

    Returns:
        Map of shape `(batch, ceil(height / strides), ceil(width / strides),
        filters)`.

    Attributes:
        kernel: The fusing convolution, `((filters + 2 * channels) / fuse_groups,
            filters)`.
        bias: Biases of b1, b2, b3 and u, end to end in one vector, or `None`.
    """

    def __init__(
        self,
        filters,
        strides=1,
        groups=16,
        fuse_groups=2,
        normalization="output",
        use_bias=False,
        random_ratio=0.0,
        norm_momentum=0.99,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        require_positive(
            filters=filters, strides=strides, groups=groups, fuse_groups=fuse_groups
        )
        if normalization not in _NORMALIZATIONS:
            raise ValueError(
                f"`normalization` must be one of {list(_NORMALIZATIONS)}. Received: "
                f"normalization={normalization!r}."
            )
        self.filters = filters
        self.strides = strides
        self.groups = groups
        self.fuse_groups = fuse_groups
        self.normalization = normalization
        self.use_bias = bool(use_bias)
        self.random_ratio = random_ratio
        self.norm_momentum = norm_momentum
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.pointwise = self._branch(
            RandomProjectionConv2D,
            "pointwise",
            filters=filters,
            kernel_size=1,
            groups=groups,
        )
        self.depthwise3 = self._branch(
            RandomProjectionDepthwiseConv2D, "depthwise3", kernel_size=3
        )
        self.depthwise5 = self._branch(
            RandomProjectionDepthwiseConv2D, "depthwise5", kernel_size=5
        )
        self.branch_norm = self._norm("branch_norm") if normalization == "all" else None
        self.norm = self._norm("norm") if normalization else None

    def _branch(self, cls, name, **kwargs):
        return cls(
            strides=self.strides,
            random_ratio=self.random_ratio,
            use_bias=False,
            kernel_initializer=self.kernel_initializer.clone(),
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )

    def _norm(self, name):
        return keras.layers.BatchNormalization(
            axis=-1, momentum=self.norm_momentum, dtype=self.dtype_policy, name=name
        )

    @property
    def _branches(self):
        return (self.pointwise, self.depthwise3, self.depthwise5)

    def build(self, input_shape):
        require_map(self, input_shape)
        for branch in self._branches:
            branch.build(input_shape)
        output_shape = self.compute_output_shape(input_shape)
        self._width = self.filters + 2 * input_shape[-1]
        require_groups(
            self, self.fuse_groups, filters=self.filters, branches=self._width
        )
        self.kernel = self.add_weight(
            shape=(self._width // self.fuse_groups, self.filters),
            initializer=self.kernel_initializer.clone(),
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self._width + self.filters,), initializer="zeros", name="bias"
            )
        if self.branch_norm is not None:
            self.branch_norm.build((*output_shape[:-1], self._width))
        if self.norm is not None:
            self.norm.build(output_shape)

    def call(self, x, training=None):
        return self.convolve(x, self.draw_kernels(), training=training)

    def draw_kernels(self):
        """Draws the random filters and returns all kernels, for `convolve`.

        A layer that convolves several maps with one draw calls the two on its own.
        """
        fuse = block_diagonal(ops.convert_to_tensor(self.kernel), self.fuse_groups)
        if self.fuse_groups > 1:
            # To shuffle the rows of the kernel back is to shuffle the channels.
            fuse = ops.reshape(fuse, (-1, self.groups, self.filters))
            fuse = ops.reshape(ops.transpose(fuse, (1, 0, 2)), (-1, self.filters))
        depthwise = self.depthwise3.draw_kernel(), self.depthwise5.draw_kernel()
        if self.branch_norm is None:
            return self._fold(self.pointwise.draw_grouped_kernel(), fuse), depthwise
        return (self.pointwise.draw_kernel(), fuse), depthwise

    def convolve(self, x, kernels, training=None):
        """Computes u with the kernels that `draw_kernels` returned."""
        pointwise, (depthwise3, depthwise5) = kernels
        b2 = self.depthwise3.convolve(x, depthwise3)
        b3 = self.depthwise5.convolve(x, depthwise5)
        biases = None
        if self.bias is not None:
            biases = ops.split(ops.convert_to_tensor(self.bias), [self._width])
        if self.branch_norm is None:
            w1, w2, w3, fuse = pointwise
            y = pointwise_conv(x, w1, self.strides)
            y = y + ops.matmul(b2, w2) + ops.matmul(b3, w3)
            if biases is not None:
                y = y + (ops.matmul(biases[0], fuse) + biases[1])
        else:
            w1, fuse = pointwise
            b1 = self.pointwise.convolve(x, w1)
            y = ops.concatenate([b1, b2, b3], axis=-1)
            if biases is not None:
                y = y + biases[0]
            y = ops.matmul(self.branch_norm(y, training=training), fuse)
            if biases is not None:
                y = y + biases[1]
        # (batch, H', W', filters)
        return y if self.norm is None else self.norm(y, training=training)

    def _fold(self, pointwise, fuse):
        """Kernels of x, b2 and b3 in u, and `fuse` itself.

        Nothing stands between the branches and their fusion, so b1 = x W1 need not be
        worked out: (x W1) W = x (W1 W), a product of matrices group by group.
        """
        own, of_b2, of_b3 = ops.split(
            fuse, [self.filters, (self.filters + self._width) // 2]
        )
        # (groups, channels / groups, filters / groups) by (groups, ..., filters)
        pointwise = ops.reshape(
            pointwise, (-1, self.groups, self.filters // self.groups)
        )
        folded = ops.matmul(
            ops.transpose(pointwise, (1, 0, 2)),
            ops.reshape(own, (self.groups, -1, self.filters)),
        )
        return ops.reshape(folded, (-1, self.filters)), of_b2, of_b3, fuse

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides, self.filters)

    def multiply_adds(self, input_shape):
        """Multiply-adds for one sample of `input_shape` `(batch, H, W, C)`."""
        _, height, width, _ = self.compute_output_shape(input_shape)
        width_of_branches = self.filters + 2 * input_shape[-1]
        fuse = width_of_branches // self.fuse_groups * self.filters
        return height * width * fuse + sum(
            branch.multiply_adds(input_shape) for branch in self._branches
        )

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "groups": self.groups,
            "fuse_groups": self.fuse_groups,
            "normalization": self.normalization,
            "use_bias": self.use_bias,
            "random_ratio": self.random_ratio,
            "norm_momentum": self.norm_momentum,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
