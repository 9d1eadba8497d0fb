"""What the names of columns say: the words that logs of this field use.

This is the one place of the profile that knows tasks by name.
"""

from esmm_spark.contracts.fields.amounts import name_words
from esmm_spark.contracts.schemas.split_names import TEST, TRAIN, VALIDATION, SplitName

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
# Of a column's values: all of them, for it to name the splits.
SPLIT_WORDS: dict[SplitName, set[str]] = {
    TRAIN: {"train", "training", "trn", "tr"},
    VALIDATION: {"validation", "valid", "val", "dev", "eval"},
    TEST: {"test", "testing", "tst", "te", "holdout"},
}
TIME_WORDS = {"time", "timestamp", "ts", "date", "datetime", "day", "dt"}
NOT_TIME_WORDS = {"dwell", "watch", "play", "spent", "duration", "stay", "of", "zone", "since"}
OUTCOME_WORDS = {
    *("like", "liked", "likes", "follow", "followed", "comment", "commented", "share", "shared", "forward"),
    *("collect", "favorite", "favourite", "cart", "dwell", "watch", "watched", "stay", "revenue", "gmv"),
    *("refund", "refunded", "cancel", "cancelled", "finish", "finished", "complete", "completed", "reward"),
    *("long", "hate", "play", "played", "spent", "outcome", "result", "install", "installed", "signup"),
    *(word for words in TASK_WORDS.values() for word in words),
}


# Beside an outcome's word: it is one of before the impression.
PAST_WORDS = {
    "hist",
    "history",
    "historical",
    "past",
    "prev",
    "previous",
    "prior",
    "before",
    "last",
    "recent",
}


def is_outcome(name: str) -> bool:
    """Returns whether a column is called like what may follow an impression: `num_comments`, `paid`."""
    words = name_words(name)
    return not OUTCOME_WORDS.isdisjoint(words | {word.removesuffix("s") for word in words})


def is_of_the_past(name: str) -> bool:
    """Returns whether a column is called like what had happened before: `last_click_category`."""
    return not PAST_WORDS.isdisjoint(name_words(name))


def own_words(name: str) -> set[str]:
    """Returns the words without those that say that a column is a label."""
    return name_words(name) - LABEL_WORDS
