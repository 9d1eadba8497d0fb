"""Which names say that a column holds amounts, not ids: `price_cents`, `numViews`."""

import re

AMOUNT_WORDS = {
    *(
        "price",
        "cost",
        "amount",
        "count",
        "cnt",
        "num",
        "age",
        "duration",
        "length",
        "score",
        "rate",
        "ratio",
    ),
    *("quantity", "qty", "size", "weight", "height", "width", "distance", "income", "stock", "discount"),
    *(
        "fee",
        "sales",
        "visits",
        "views",
        "impressions",
        "followers",
        "fans",
        "days",
        "hours",
        "seconds",
        "bid",
    ),
}
# Numbers of no more distinct values are categories.
FEW_NUMBERS = 50
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def name_words(name: str) -> set[str]:
    """Returns the words of a column's name: `{"is", "click"}` of `isClick`, `is_click` and `IS_CLICK`."""
    return {word.lower() for word in _WORD.findall(name)}


def is_amount_name(name: str) -> bool:
    """Returns whether a column is called like an amount, of which a larger one is more."""
    return bool(name_words(name) & AMOUNT_WORDS)
