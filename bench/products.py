"""The matrix products of a training step, alone: what the towers would take if nothing stood between them.

The same products of the same sizes, over the same few hundred impressions at a time, spread over the same
threads as `esmm_spark/model/fused/tower_kernels.py` makes them, on numbers that mean nothing.
"""

import itertools
import time
from collections.abc import Sequence

import numba
import numpy as np
import torch
from numba import prange

from esmm_spark.model.fused.blas import gemm, gemm_addresses
from esmm_spark.model.fused.tower import block_and_chunk
from esmm_spark.model.kernels.compilation import fetch_and_add, num_threads

_ROUNDS = 10


def products_s(num_impressions: int, widths: Sequence[int]) -> float:
    """Returns seconds of one tower's products, forwards and backwards, the median of several rounds.

    Args:
        num_impressions: impressions of a step.
        widths: features of an impression that go into the tower, and the units of each hidden layer.
    """
    threads, addresses = num_threads(), gemm_addresses(bfloat16=False)
    assert addresses is not None, "torch exports no sgemm"
    sizes, largest = np.array([*widths, 1]), max(widths)
    sharing = _, chunk = block_and_chunk(num_impressions, bfloat16=False)
    x = np.ones((threads, chunk * largest), np.float32)
    weights, out = (
        np.ones(largest * largest, np.float32),
        np.ones((threads, largest * max(chunk, largest)), np.float32),
    )
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        _all_products(
            num_impressions, sharing, sizes, x, weights, out, np.zeros(1, np.int64), addresses.sgemm
        )
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def product_flops(num_impressions: int, widths: Sequence[int]) -> int:
    """Returns the floating point operations of those products: 2 for each number multiplied and added."""
    layers = [*widths, 1]
    return 3 * 2 * num_impressions * sum(before * width for before, width in itertools.pairwise(layers))


@numba.njit(parallel=True, nogil=True, boundscheck=False)
def _all_products(num_impressions, sharing, sizes, x, weights, out, counter, address):  # type: ignore[no-untyped-def]
    block, chunk = sharing
    for thread in prange(x.shape[0]):
        while True:
            begin = fetch_and_add(counter) * block
            if begin >= num_impressions:
                break
            end = min(begin + block, num_impressions)
            for first in range(begin, end, chunk):
                m = min(chunk, end - first)
                for layer in range(sizes.shape[0] - 1):
                    before, width = sizes[layer], sizes[layer + 1]
                    gemm(address, "NT", (m, width, before), x[thread], weights, 0, out[thread])
                    gemm(address, "TN", (width, before, m), x[thread], x[thread], 0, out[thread])
                    gemm(address, "NN", (m, before, width), x[thread], weights, 0, out[thread])


def sgemm_gflops(size: int = 2048, rounds: int = 8) -> float:
    """Returns the GFLOP/s of a float32 product of two square matrices, the best of several."""
    a, b = torch.randn(2, size, size)
    torch.mm(a, b)
    best_s = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        torch.mm(a, b)
        best_s = min(best_s, time.perf_counter() - started)
    return 2 * size**3 / best_s / 1e9
