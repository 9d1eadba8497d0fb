"""What follows a layer's matrix product: biases, contexts' shares, PReLU; and the mixture of experts.

Each goes once over what the product gave, where torch goes over it for every operation.

Shapes: G groups, N impressions, B perceptrons side by side of H units, S gates. `pre` are inputs of
activations. Impressions are cut into blocks, whose sums are added up in their order: results are the same for
any number of threads.
"""

import numpy as np
from numba import prange

from esmm_spark.model.kernels.compilation import MODEL_KERNEL_FILES, kernel, parallel_kernel
from esmm_spark.runtime.arrays import Float32s, Ints
from esmm_spark.runtime.compiling import compiled


def _dot(left: Float32s, right: Float32s) -> np.float32:
    total = np.float32(0)
    for j in range(left.shape[0]):
        total += left[j] * right[j]
    return total


# Its sums may be reordered, by the compiler once and for all, so that they are made side by side.
_dot = compiled(_dot, MODEL_KERNEL_FILES, _nrt=False, fastmath={"contract", "reassoc"})


@parallel_kernel
def grouped_forward(
    starts: Ints, group_index: Ints, shares: Float32s, slopes: Float32s, pre: Float32s, out: Float32s
) -> None:
    """Adds each impression's share, then PReLU.

    Args:
        starts: [blocks + 1], where the blocks of impressions begin, each at the first of a group, and N.
        group_index: [N], sorted.
        shares: [G, B * H].
        slopes: [B, H].
        pre: [N, B * H], the product; the shares are added.
        out: [B, N, H], set.
    """
    for block in prange(starts.shape[0] - 1):
        _grouped_forward(starts[block : block + 2], group_index, shares, slopes, pre, out)


@kernel
def _grouped_forward(
    span: Ints, group_index: Ints, shares: Float32s, slopes: Float32s, pre: Float32s, out: Float32s
) -> None:
    num_perceptrons, num_impressions, width = out.shape
    row = num_perceptrons * width
    flat, flat_out = pre.reshape(-1), out.reshape(-1)
    flat_shares, flat_slopes = shares.reshape(-1), slopes.reshape(-1)
    for i in range(span[0], span[1]):
        share = flat_shares[group_index[i] * row : (group_index[i] + 1) * row]
        _add(flat[i * row : (i + 1) * row], share)
        for b in range(num_perceptrons):
            at, to = i * row + b * width, (b * num_impressions + i) * width
            _prelu(flat[at : at + width], flat_slopes[b * width : (b + 1) * width], flat_out[to : to + width])


@parallel_kernel
def grouped_backward(
    starts: Ints,
    group_index: Ints,
    slopes: Float32s,
    pre: Float32s,
    gradient: Float32s,
    pre_gradient: Float32s,
    share_gradient: Float32s,
    slope_sums: Float32s,
) -> None:
    """Backward of `grouped_forward`.

    Args:
        starts: as there.
        group_index: as there.
        slopes: [B, H].
        pre: [N, B * H], with the shares.
        gradient: [B, N, H].
        pre_gradient: [N, B * H], set.
        share_gradient: [G, B * H], added to.
        slope_sums: [blocks, B, H], added to.
    """
    for block in prange(starts.shape[0] - 1):
        outputs = (pre_gradient, share_gradient, slope_sums[block])
        _grouped_backward(starts[block : block + 2], group_index, slopes, pre, gradient, outputs)


@kernel
def _grouped_backward(
    span: Ints,
    group_index: Ints,
    slopes: Float32s,
    pre: Float32s,
    gradient: Float32s,
    outputs: tuple[Float32s, Float32s, Float32s],
) -> None:
    num_perceptrons, num_impressions, width = gradient.shape
    row = num_perceptrons * width
    flat, flat_gradient, flat_slopes = pre.reshape(-1), gradient.reshape(-1), slopes.reshape(-1)
    pre_gradient, share_gradient, slope_sums = outputs
    flat_out, flat_shares, flat_sums = (
        pre_gradient.reshape(-1),
        share_gradient.reshape(-1),
        slope_sums.reshape(-1),
    )
    for i in range(span[0], span[1]):
        for b in range(num_perceptrons):
            at, fro = i * row + b * width, (b * num_impressions + i) * width
            _prelu_backward(
                flat_gradient[fro : fro + width],
                flat[at : at + width],
                flat_slopes[b * width : (b + 1) * width],
                flat_out[at : at + width],
                flat_sums[b * width : (b + 1) * width],
            )
        share = flat_shares[group_index[i] * row : (group_index[i] + 1) * row]
        _add(share, flat_out[i * row : (i + 1) * row])


@parallel_kernel
def batched_forward(num_blocks: int, slopes: Float32s, pre: Float32s, out: Float32s) -> None:
    """PReLU: sets out [B, N, H] for pre [B, N, H] and slopes [B, H], in blocks of impressions."""
    num_perceptrons, num_impressions = pre.shape[0], pre.shape[1]
    for part in prange(num_perceptrons * num_blocks):
        b, block = part // num_blocks, part % num_blocks
        for i in range(num_impressions * block // num_blocks, num_impressions * (block + 1) // num_blocks):
            _prelu(pre[b, i], slopes[b], out[b, i])


@parallel_kernel
def batched_backward(
    slopes: Float32s, pre: Float32s, gradient: Float32s, pre_gradient: Float32s, slope_sums: Float32s
) -> None:
    """Backward of `batched_forward`.

    Args:
        slopes: [B, H].
        pre: [B, N, H].
        gradient: [B, N, H].
        pre_gradient: [B, N, H], set.
        slope_sums: [blocks, B, H], added to.
    """
    num_perceptrons, num_impressions, num_blocks = pre.shape[0], pre.shape[1], slope_sums.shape[0]
    for part in prange(num_perceptrons * num_blocks):
        b, block = part // num_blocks, part % num_blocks
        for i in range(num_impressions * block // num_blocks, num_impressions * (block + 1) // num_blocks):
            _prelu_backward(gradient[b, i], pre[b, i], slopes[b], pre_gradient[b, i], slope_sums[block, b])


@parallel_kernel
def mix_forward(num_blocks: int, gates: Float32s, experts: Float32s, out: Float32s) -> None:
    """Sets out [S, N, H] to the sums of experts [B, N, H] that gates [N, S, B] weigh."""
    num_impressions = gates.shape[0]
    for block in prange(num_blocks):
        for i in range(num_impressions * block // num_blocks, num_impressions * (block + 1) // num_blocks):
            _mix(gates[i], experts, out, i)


@kernel
def _mix(gates: Float32s, experts: Float32s, out: Float32s, i: int) -> None:
    for s in range(gates.shape[0]):
        out[s, i] = 0
        for e in range(gates.shape[1]):
            # PLE's gates have no weight for other heads' experts.
            if gates[s, e] != 0:
                _add_scaled(out[s, i], gates[s, e], experts[e, i])


@parallel_kernel
def mix_backward(
    num_blocks: int,
    gates: Float32s,
    experts: Float32s,
    gradient: Float32s,
    gate_gradient: Float32s,
    expert_gradient: Float32s,
) -> None:
    """Backward of `mix_forward`.

    Args:
        num_blocks: blocks of impressions.
        gates: [N, S, B].
        experts: [B, N, H].
        gradient: [S, N, H].
        gate_gradient: [N, S, B], set.
        expert_gradient: [B, N, H], set.
    """
    num_impressions = gates.shape[0]
    for block in prange(num_blocks):
        for i in range(num_impressions * block // num_blocks, num_impressions * (block + 1) // num_blocks):
            _mix_backward(gates[i], experts, gradient, gate_gradient[i], expert_gradient, i)


@kernel
def _mix_backward(
    gates: Float32s,
    experts: Float32s,
    gradient: Float32s,
    gate_gradient: Float32s,
    expert_gradient: Float32s,
    i: int,
) -> None:
    for e in range(gates.shape[1]):
        expert_gradient[e, i] = 0
        for s in range(gates.shape[0]):
            gate_gradient[s, e] = _dot(gradient[s, i], experts[e, i])
            if gates[s, e] != 0:
                _add_scaled(expert_gradient[e, i], gates[s, e], gradient[s, i])


@kernel
def _add(out: Float32s, added: Float32s) -> None:
    for j in range(out.shape[0]):
        out[j] += added[j]


@kernel
def _add_scaled(out: Float32s, factor: float, added: Float32s) -> None:
    for j in range(out.shape[0]):
        out[j] += factor * added[j]


@kernel
def _prelu(x: Float32s, slopes: Float32s, out: Float32s) -> None:
    for j in range(out.shape[0]):
        out[j] = x[j] if x[j] > 0 else x[j] * slopes[j]


@kernel
def _prelu_backward(
    gradient: Float32s, x: Float32s, slopes: Float32s, out: Float32s, slope_sums: Float32s
) -> None:
    for j in range(out.shape[0]):
        is_positive = x[j] > 0
        out[j] = gradient[j] if is_positive else gradient[j] * slopes[j]
        slope_sums[j] += 0 if is_positive else gradient[j] * x[j]
