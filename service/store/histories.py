"""What installs and uninstalls make of a user's history; the same for every backend."""

from collections.abc import Iterable, Mapping

from service.store.ports import HistoryChange


def by_user(changes: Iterable[HistoryChange]) -> dict[str, list[HistoryChange]]:
    """The changes of each user, in order."""
    grouped: dict[str, list[HistoryChange]] = {}
    for change in changes:
        grouped.setdefault(change.user_id, []).append(change)
    return grouped


def changed(history: Mapping[str, int], changes: Iterable[HistoryChange]) -> dict[str, int]:
    """The history after these changes: an app taken up counts once unless it is there, one given up is gone.

    It comes most used first, ties by id as in training; one that nothing changes keeps the order it has.
    """
    counts = dict(history)
    for change in changes:
        if change.installed:
            counts.setdefault(change.app_id, 1)
        else:
            counts.pop(change.app_id, None)
    if counts.keys() == history.keys():
        return dict(history)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
