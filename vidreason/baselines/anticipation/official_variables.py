"""Variables of the official TensorFlow 1 graphs, as torch's layers hold them."""

from collections.abc import Sequence

from torch import Tensor, nn


def load_variables(layers: Sequence[nn.Linear | nn.Conv2d], variables: Sequence[Tensor]) -> None:
    """Give layers TensorFlow's variables, a kernel and a bias each.

    Kernels are ``(inputs, outputs)``, or of a convolution ``(rows, columns, inputs, outputs)``.
    They stay in their layout in memory: the order of a layer's sums, and with it the last bits of
    its output, is nearer to the official one than with a copy the other way round.

    Raises:
        ValueError: Their number or a shape is another one.
    """
    if len(variables) != 2 * len(layers):
        raise ValueError(f"variables: expected {2 * len(layers)}, found {len(variables)}")
    for number, layer in enumerate(layers):
        kernel, bias = variables[2 * number : 2 * number + 2]
        is_linear = isinstance(layer, nn.Linear)
        # TensorFlow has the outputs last: (in, out) -> (out, in), and
        # (h, w, in, out) -> (out, in, h, w).
        weight = kernel.T if is_linear and kernel.dim() == 2 else kernel
        if not is_linear and kernel.dim() == 4:
            weight = kernel.permute(3, 2, 0, 1)
        assert layer.bias is not None
        for target, value in ((layer.weight, weight), (layer.bias, bias)):
            if target.shape != value.shape:
                raise ValueError(
                    f"variables: those of layer {number + 1} give a tensor of the shape "
                    f"{tuple(value.shape)}, expected {tuple(target.shape)}; check the number of "
                    "labels and the other sizes"
                )
        layer.weight = nn.Parameter(weight.to(layer.weight))
        layer.bias = nn.Parameter(bias.to(layer.bias))
