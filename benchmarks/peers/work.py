"""The work that all contenders get: images, masks, and how operations are counted. NumPy alone."""

import time

import numpy as np


def images_and_masks(batch, size, channels=3):
    """Make a batch from a seed: noise in the range of normalized slices, and a disk as mask.

    Args:
        batch: Slices.
        size: Side in pixels.
        channels: Of the images.

    Returns:
        Images `(batch, size, size, channels)` and masks `(batch, size, size, 1)`, float32.
    """
    rng = np.random.default_rng(0)
    images = rng.random((batch, size, size, channels), np.float32)
    rows, columns = np.mgrid[:size, :size] - size / 2
    mask = (rows**2 + columns**2 < (size / 5) ** 2).astype(np.float32)
    return images, np.repeat(mask[np.newaxis, ..., np.newaxis], batch, axis=0)


def timed(step):
    """Make a function that does so many steps and gives the seconds."""

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - start

    return run


def convolution_flops(positions, kernel, channels_in, channels_out):
    """Count multiplications and additions of a convolution.

    Args:
        positions: Pixels at which the kernel is applied: of the output, or of the input where it is transposed.
        kernel: Pixels of the kernel.
        channels_in: Channels of the input that one output sees.
        channels_out: Channels of the output.

    Returns:
        Operations.
    """
    return 2 * positions * kernel * channels_in * channels_out


def graph_flops(operations):
    """Count the operations of a TensorFlow graph's convolutions and matrix products, for its shapes.

    Each call of a layer counts, so a kernel that is used four times counts four times; biases, normalization and
    activations are left out, as PyTorch's own counter leaves them out.

    Args:
        operations: `graph.get_operations()`.

    Returns:
        Operations of one run of the graph.

    Raises:
        ValueError: An operation hidden in a function, whose shapes are not known.
    """
    total = 0
    for operation in operations:
        kind = operation.type
        if kind in ("Conv2D", "Conv2DBackpropInput", "DepthwiseConv2dNative"):
            # A transposed convolution gets the shape of its answer first, then kernel and input.
            height, width, inward, outward = operation.inputs[1].shape.as_list()
            received = operation.inputs[2] if kind == "Conv2DBackpropInput" else operation.outputs[0]
            pixels = int(np.prod(received.shape.as_list()[:3]))
            total += convolution_flops(pixels, height * width, inward, outward)
        elif kind == "MatMul":
            rows, inner = operation.inputs[0].shape.as_list()
            if operation.get_attr("transpose_a"):
                rows, inner = inner, rows
            total += 2 * rows * inner * operation.outputs[0].shape.as_list()[1]
        elif kind in ("PartitionedCall", "StatefulPartitionedCall"):
            raise ValueError(f"cannot count the operations inside {operation.name}")
    return total


def matrix_rate(multiply, side=2048, repeats=5):
    """Give the GFLOP/s of a matrix product of two square float32 matrices, the best of some.

    Args:
        multiply: Function of a side that gives a function without arguments, which multiplies once.
        side: Rows and columns.
        repeats: How often it is timed.
    """
    step = multiply(side)
    step()
    return 2 * side**3 / min(timed(step)(1) for _ in range(repeats)) / 1e9
