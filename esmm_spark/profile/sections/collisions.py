"""The section of hash tables: sizes and expected collisions."""

from esmm_spark.pages.numbers import percent
from esmm_spark.pages.page import PageSection, Table
from esmm_spark.profile.counts.collisions import colliding_share
from esmm_spark.profile.result import Profile


def section(found: Profile) -> PageSection | None:
    """Returns the table of each feature: its values, its buckets, how many values share one."""
    hashed = [guess for guess in found.chosen if not guess.boundaries]
    if not hashed:
        return None
    lines: list[tuple[str, list[int | str]]] = []
    total = 0
    for guess in hashed:
        distinct, buckets = guess.column.distinct, guess.num_buckets
        total += buckets
        shares = [
            percent(colliding_share(distinct, size), 1) for size in (buckets // 4, buckets, buckets * 4)
        ]
        lines.append((guess.column.name, [distinct, buckets, *shares, guess.min_count]))
    texts = [
        "A value's bucket follows from its hash, so two values may share one. The expected share of "
        "values that do: "
        "1 - (1 - 1 / (buckets - 1)) ^ (values - 1).",
        f"All tables have {total:,} buckets together: at 12 numbers each {total * 48 / 2**20:,.0f} MiB, "
        "spread over "
        "the ranks.",
    ]
    sizes = ("Shared at a quarter", "Shared", "Shared at four times")
    heads = ["Feature", "Values", "num_buckets", *sizes, "min_count"]
    return PageSection("Hash tables", "tables.html", {"texts": texts, "tables": [Table(heads, lines)]})
