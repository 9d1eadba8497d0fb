"""Distinct rows by owner against torch.unique, and pooling from them against nn.functional.embedding_bag."""

import pytest
import torch
import torch.nn.functional as F

from esmm_spark.model.embedding.distinct import distinct_by_owner


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("num_tokens", [0, 1, 1023, 1024, 5000])
def test_each_row_is_asked_for_once_from_its_owner_and_found_again(
    num_tokens: int, num_ranks: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(num_tokens)
    top = 2**31 - 1 if dtype == torch.int32 else 2**40
    rows = torch.cat(
        (
            torch.randint(0, 50, (num_tokens // 2,), generator=generator),
            torch.randint(0, top, (num_tokens - num_tokens // 2,), generator=generator),
        )
    ).to(dtype)

    found = distinct_by_owner(rows, num_ranks)

    assert len(found.local_rows) == len(torch.unique(rows)) == int(found.splits.sum())
    owners = torch.repeat_interleave(torch.arange(num_ranks), found.splits.long())
    asked = found.local_rows.long() * num_ranks + owners
    assert torch.equal(asked[found.positions.long()], rows.long())


def test_rows_that_share_their_hash_s_bits_are_still_told_apart() -> None:
    # Multiples of 2^24 have their low 24 bits of the product 0: many fall into few slots.
    rows = (torch.arange(120) << 24).repeat(3)
    found = distinct_by_owner(rows, 2)
    assert len(found.local_rows) == 120


@pytest.mark.parametrize("dim", [1, 4, 12, 18])
def test_pooling_and_its_gradient_are_torch_s(dim: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    rows = torch.randint(0, 40, (300,), generator=generator)
    weights = torch.randn(300, generator=generator)
    offsets = torch.tensor([0, 0, 7, 7, 150, 299, 300, 300], dtype=torch.int32)
    distinct = distinct_by_owner(rows, 3)
    fetched = torch.randn(len(distinct.local_rows), dim, generator=generator, requires_grad=True)
    upper = torch.randn(7, dim, generator=generator)

    found = distinct.pool(fetched, offsets, weights)
    expected = F.embedding_bag(
        distinct.positions.long(),
        fetched,
        offsets.long(),
        mode="sum",
        per_sample_weights=weights,
        include_last_offset=True,
    )

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (mine,) = torch.autograd.grad((found * upper).sum(), fetched)
    (theirs,) = torch.autograd.grad((expected * upper).sum(), fetched)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
