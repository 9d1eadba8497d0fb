"""What the names of columns say: the words that logs of this field use.

This is the one place of the profile that knows tasks by name.
"""

import re

CLICK, CONVERSION = "click", "conversion"
TASK_WORDS = {
    CLICK: {"click", "clicks", "clicked", "clk", "isclick", "ctr"},
    CONVERSION: {
        *("conversion", "conversions", "converted", "convert", "conv", "cvr", "order", "orders", "ordered"),
        *("purchase", "purchased", "buy", "bought", "pay", "paid", "payment", "transaction"),
    },
}
# Words beside a task's own that make no other column of it.
LABEL_WORDS = {"is", "has", "label", "flag", "y", "target", "did"}
REQUEST_WORDS = {
    "request",
    "req",
    "session",
    "search",
    "query",
    "pageview",
    "impression_group",
    "slate",
    "auction",
}
USER_WORDS = {"user", "uid", "userid", "member", "visitor", "device", "customer", "buyer", "viewer", "cookie"}
IMPRESSION_WORDS = {"impression", "imp", "exposure", "event", "log", "sample", "record", "row"}
ID_WORDS = {
    "id",
    "ids",
    "uid",
    "key",
    "code",
    "uuid",
    "guid",
    "hash",
    "no",
    "number",
    "type",
    "category",
    "cat",
}
TIME_WORDS = {"time", "timestamp", "ts", "date", "datetime", "day", "dt"}
NOT_TIME_WORDS = {"dwell", "watch", "play", "spent", "duration", "stay", "of", "zone", "since"}
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
OUTCOME_WORDS = {
    *("like", "liked", "likes", "follow", "followed", "comment", "commented", "share", "shared", "forward"),
    *("collect", "favorite", "favourite", "cart", "dwell", "watch", "watched", "stay", "revenue", "gmv"),
    *("refund", "refunded", "cancel", "cancelled", "finish", "finished", "complete", "completed", "reward"),
    *("long", "hate", "play", "played", "spent", "outcome", "result", "install", "installed", "signup"),
    *(word for words in TASK_WORDS.values() for word in words),
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def name_words(name: str) -> set[str]:
    """Returns the words of a column's name: `{"is", "click"}` of `isClick`, `is_click` and `IS_CLICK`."""
    return {word.lower() for word in _WORD.findall(name)}


def own_words(name: str) -> set[str]:
    """Returns the words without those that say that a column is a label."""
    return name_words(name) - LABEL_WORDS
