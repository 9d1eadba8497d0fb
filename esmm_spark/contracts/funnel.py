"""The event logs as a task chain: one log per task, whose events follow from those of the parent task.

    impressions <- clicks <- conversions        (logs.events.clicks, .conversions, .attribution)
                                  ^--- repurchases      (logs.events.tasks.repurchase)

The tasks `click` and `conversion` may have the keys that are named after them; any task may have its own in
`logs.events.tasks`.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

from esmm_spark.contracts.event_config import (
    ClickLog,
    ConversionLog,
    EventLog,
    EventLogs,
    ReversalLog,
    TaskLog,
)
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tasks import Tasks

IMPRESSIONS = "impressions"
IMPRESSION_ID = "impression_id"
_NAMED_KEYS = {("click",): "clicks", ("click", "conversion"): "conversions"}


class EventLink(NamedTuple):
    """The events of one task, and what they belong to.

    Attributes:
        task: the task's name.
        log_name: `clicks`, `conversions`, or the name of the task.
        key: where its config stands, `logs.events.clicks` or `logs.events.tasks.repurchase`.
        log: its files, times and features.
        ids: canonical name of an id, `click_id`, `impression_id`, `user_id`, `item_id` -> its source.
        cause_task: the task whose event causes one; None for a root, whose events belong to impressions.
        window_s: how long before an event its cause lies at most.
        takes_first: whether, where user and item tell, the cause is the first of the window, not the last.
    """

    task: str
    log_name: str
    key: str
    log: EventLog
    ids: Mapping[str, ColumnSource]
    cause_task: str | None
    window_s: int
    takes_first: bool = False

    @property
    def own_id(self) -> str:
        """The canonical name of the event's own id."""
        return f"{self.task}_id"

    @property
    def cause_id(self) -> str:
        """The canonical name of the cause's id."""
        return IMPRESSION_ID if self.cause_task is None else f"{self.cause_task}_id"

    @property
    def is_by_id(self) -> bool:
        """Whether the log says which event or impression caused one; else user and item tell."""
        return self.cause_id in self.ids

    @property
    def matched_by(self) -> list[str]:
        """The ids that an event and its cause have in common."""
        return [self.cause_id] if self.is_by_id else ["user_id", "item_id"]


class Reversal(NamedTuple):
    """A log that takes events of a task back.

    Attributes:
        log_name: its name below `logs.events.reversals`.
        log: its files, times and window.
        link: the events that it takes back.
    """

    log_name: str
    log: ReversalLog
    link: EventLink


class Funnel:
    """The impressions' log and the tasks', linked, and the logs that take their events back.

    Attributes:
        events: the config of all.
        links: [K] in the order of the tasks.
        reversals: in the config's order.
    """

    def __init__(self, events: EventLogs, tasks: Tasks) -> None:
        """Raises ValueError where a task has no log, or a log no ids by which its events find their cause."""
        self.events = events
        self.links = tuple(_link_of(events, tasks, name) for name in tasks.names)
        unused = [key for key in events.task_logs if key not in {link.log_name for link in self.links}]
        if unused:
            raise ValueError(f"logs.events has a log of {unused[0]}, but tasks are {tasks.described()}")
        for link in self.links:
            self._check_ids(link)
        self.reversals = tuple(self._reversal_of(name, log) for name, log in events.reversals.items())

    @cached_property
    def impression_ids(self) -> dict[str, ColumnSource]:
        """Canonical name of an id of the impressions -> its source."""
        log = self.events.impressions
        return {
            IMPRESSION_ID: log.impression_id,
            "user_id": log.user_id,
            "item_id": log.item_id,
            "context_key": log.context_key or log.user_id,
        }

    @cached_property
    def logs(self) -> dict[str, EventLog]:
        """Log -> its config, the impressions first."""
        return {
            IMPRESSIONS: self.events.impressions,
            **{link.log_name: link.log for link in self.links},
            **self.events.reversals,
        }

    @property
    def arriving(self) -> frozenset[str]:
        """The logs whose lines say when they arrived, perhaps long after their time."""
        return frozenset(name for name, log in self.logs.items() if log.ingest_time is not None)

    def key_of(self, log_name: str) -> str:
        """Returns where a log's config stands: `logs.events.clicks`."""
        keys = {link.log_name: link.key for link in self.links}
        keys |= {name: f"logs.events.reversals.{name}" for name in self.events.reversals}
        return keys.get(log_name, f"logs.events.{log_name}")

    def key_of_id(self, log_name: str, id_name: str) -> str:
        """Returns the key of an id below `key_of`: `click_id`, or `parent_id` in the log of a task."""
        if log_name in self.events.reversals:
            return "event_id"
        link = next((link for link in self.links if link.log_name == log_name), None)
        if link is None or not isinstance(link.log, TaskLog):
            return id_name
        return {link.own_id: "event_id", link.cause_id: "parent_id"}.get(id_name, id_name)

    def ids_of(self, log_name: str) -> Mapping[str, ColumnSource]:
        """Returns canonical name of an id -> its source, of a log."""
        if log_name == IMPRESSIONS:
            return self.impression_ids
        for reversal in self.reversals:
            if reversal.log_name == log_name:
                return {reversal.link.own_id: reversal.log.event_id}
        return next(link.ids for link in self.links if link.log_name == log_name)

    def cause_of(self, link: EventLink) -> EventLink | None:
        """Returns the link of the task that `link` is given; None for a root."""
        return None if link.cause_task is None else self._by_task[link.cause_task]

    def root_of(self, link: EventLink) -> EventLink:
        """Returns the first link of the chain to `link`."""
        cause = self.cause_of(link)
        return link if cause is None else self.root_of(cause)

    def children(self, link: EventLink) -> list[EventLink]:
        """Returns the links of the tasks that are given this one's."""
        return [other for other in self.links if other.cause_task == link.task]

    def chain_window_s(self, link: EventLink) -> int:
        """Returns the seconds after an impression within which an event of `link` can belong to it."""
        cause = self.cause_of(link)
        return link.window_s + (0 if cause is None else self.chain_window_s(cause))

    def reversals_of(self, link: EventLink) -> list[Reversal]:
        """Returns the logs that take events of a link back."""
        return [reversal for reversal in self.reversals if reversal.link.task == link.task]

    @cached_property
    def longest_window_s(self) -> int:
        """The seconds after which no label of an impression can change."""
        reversed_after = [self.chain_window_s(each.link) + each.log.window_s for each in self.reversals]
        return max([*(self.chain_window_s(link) for link in self.links), *reversed_after])

    @cached_property
    def _by_task(self) -> dict[str, EventLink]:
        return {link.task: link for link in self.links}

    def _reversal_of(self, name: str, log: ReversalLog) -> Reversal:
        """Returns what a log takes back. Raises ValueError where that is no task, or has no ids."""
        if name == IMPRESSIONS or name in {link.log_name for link in self.links}:
            raise ValueError(f"reversals.{name} has the name of another log: choose another one")
        if log.takes_back not in self._by_task:
            known = ", ".join(self._by_task)
            raise ValueError(
                f"reversals.{name}.takes_back = {log.takes_back!r} is no task: there are {known}"
            )
        link = self._by_task[log.takes_back]
        if link.own_id not in link.ids:
            own = "event_id" if isinstance(link.log, TaskLog) else link.own_id
            raise ValueError(
                f"reversals.{name} names events of {link.log_name} by their id, of which there is none: set "
                f"{link.log_name}.{own}"
            )
        return Reversal(name, log, link)

    def _check_ids(self, link: EventLink) -> None:
        """Raises ValueError where an event and its cause have no ids in common."""
        cause = self.cause_of(link)
        ids = self.impression_ids if cause is None else cause.ids
        if set(link.matched_by) <= link.ids.keys() & ids.keys():
            return
        name = "parent_id" if isinstance(link.log, TaskLog) else link.cause_id
        if cause is None:
            raise ValueError(f"{link.log_name} need {name}, or user_id and item_id")
        if link.is_by_id:
            own = "event_id" if isinstance(cause.log, TaskLog) else cause.own_id
            raise ValueError(
                f"{link.log_name} have {name}, {cause.log_name} have none: set {cause.log_name}.{own}"
            )
        raise ValueError(f"{link.log_name} need {name}, or user_id and item_id there and in {cause.log_name}")


def _link_of(events: EventLogs, tasks: Tasks, task: str) -> EventLink:
    """Returns the link of one task. Raises ValueError where it has no log, or two."""
    chain, cause, shared = tasks.chain(task), tasks.parent(task), events.attribution
    named: ClickLog | ConversionLog | None = None
    if chain == ("click",):
        named = events.clicks
    elif chain == ("click", "conversion"):
        named = events.conversions
    own = events.tasks.get(task)
    if (named is None) == (own is None):
        keys = [f"logs.events.{_NAMED_KEYS[chain]}"] if chain in _NAMED_KEYS else []
        what = "no log" if own is None else "two logs"
        raise ValueError(f"task {task} has {what}: set {' or '.join([*keys, f'logs.events.tasks.{task}'])}")
    if own is not None:
        ids = _ids(own, {f"{task}_id": own.event_id, f"{cause or 'impression'}_id": own.parent_id})
        is_first = own.parent_event == "first"
        return EventLink(task, task, f"logs.events.tasks.{task}", own, ids, cause, own.window_s, is_first)
    if isinstance(named, ClickLog):
        ids = _ids(named, {"click_id": named.click_id, IMPRESSION_ID: named.impression_id})
        return EventLink(task, "clicks", "logs.events.clicks", named, ids, None, shared.click_window_s)
    assert named is not None
    return EventLink(
        task,
        "conversions",
        "logs.events.conversions",
        named,
        _ids(named, {"conversion_id": named.conversion_id, "click_id": named.click_id}),
        cause,
        shared.conversion_window_s,
        shared.conversion_click == "first",
    )


def _ids(
    log: ClickLog | ConversionLog | TaskLog, ids: Mapping[str, ColumnSource | None]
) -> dict[str, ColumnSource]:
    found = {**ids, "user_id": log.user_id, "item_id": log.item_id}
    return {name: source for name, source in found.items() if source is not None}
