"""The contract of FeatureStore, on every backend."""

from collections.abc import Iterator

import pytest

from service.store.ports import AppRecord, FeatureStore, HistoryChange, UserRecord


def test_a_user_comes_back_as_it_was_put(features: FeatureStore) -> None:
    user = UserRecord("u1", {"country": "PT", "age": 31, "pro": True, "score": 0.5, "tags": ["a", "é"], "plan": None})

    features.put_users([user])

    assert features.get_user("u1") == user


def test_a_history_keeps_its_order(features: FeatureStore) -> None:
    features.put_users([UserRecord("u1", history={"com.z": 9, "com.a": 9, "com.m": 1})])

    user = features.get_user("u1")

    assert user is not None
    assert list(user.history) == ["com.z", "com.a", "com.m"]


def test_a_user_put_twice_is_stored_once_as_put_last(features: FeatureStore) -> None:
    features.put_users([UserRecord("u1", {"country": "PT"}), UserRecord("u1", {"country": "ES"})])

    user = features.get_user("u1")

    assert user == UserRecord("u1", {"country": "ES"})
    assert features.delete_user("u1")
    assert features.get_user("u1") is None


def test_an_unknown_user_is_none_and_cannot_be_deleted(features: FeatureStore) -> None:
    assert features.get_user("nobody") is None
    assert not features.delete_user("nobody")


@pytest.mark.parametrize("user_id", ["", "'; DROP TABLE users; --", "ü-\U0001f600", "x" * 10_000])
def test_any_text_is_an_id(features: FeatureStore, user_id: str) -> None:
    features.put_users([UserRecord(user_id, {"country": "PT"})])

    assert features.get_user(user_id) == UserRecord(user_id, {"country": "PT"})


def test_several_users_come_in_the_order_asked_with_none_for_the_unknown(features: FeatureStore) -> None:
    users = {f"u{number}": UserRecord(f"u{number}", {"age": number}, {"com.z": 2, "com.a": 1}) for number in range(40)}
    features.put_users(users.values())
    asked = ["u7", "nobody", "u31", "u7", "", "u0"]

    found = features.get_users(asked)

    assert found == tuple(map(users.get, asked))
    assert found[0] is not None
    assert list(found[0].history) == ["com.z", "com.a"]


@pytest.mark.parametrize("count", [0, 1, 2, 2_500])
def test_any_number_of_users_is_asked_for_at_once(features: FeatureStore, count: int) -> None:
    features.put_users([UserRecord("u1"), UserRecord("'; DROP TABLE users; --"), UserRecord("é\x00")])
    asked = [f"u{number}" for number in range(count - 2)] + ["'; DROP TABLE users; --", "é\x00"][:count]

    assert [one.id if one else None for one in features.get_users(asked)] == [
        user_id if user_id in ("u1", "'; DROP TABLE users; --", "é\x00") else None for user_id in asked
    ]


def test_users_are_put_all_or_none(features: FeatureStore) -> None:
    with pytest.raises(ZeroDivisionError):
        features.put_users(half_a_batch())

    assert features.get_user("u1") is None


def half_a_batch() -> Iterator[UserRecord]:
    yield UserRecord("u1")
    raise ZeroDivisionError


def test_an_app_comes_back_as_it_was_put(features: FeatureStore) -> None:
    app = AppRecord("com.a", {"category": "games", "price": 0.99}, available=False, countries=("PT", "ES"))

    features.put_apps([app])

    assert features.get_app("com.a") == app
    assert features.get_app("com.b") is None


def test_the_sequence_grows_with_every_batch_that_changes_something(features: FeatureStore) -> None:
    first = features.put_apps([AppRecord("com.a"), AppRecord("com.b")])
    second = features.put_apps([AppRecord("com.c")])

    assert 0 < first < second


def test_an_app_put_as_it_was_is_no_change(features: FeatureStore) -> None:
    before = features.put_apps([AppRecord("com.a", {"x": 1, "y": 2}, countries=("PT",))])

    after = features.put_apps([AppRecord("com.a", {"y": 2, "x": 1}, countries=("PT",))])

    assert after == before
    assert features.apps_since(before).put == ()


@pytest.mark.parametrize(
    "changed",
    [AppRecord("com.a", {"x": 2}), AppRecord("com.a", available=False), AppRecord("com.a", countries=("PT",))],
)
def test_each_part_of_an_app_counts_as_a_change(features: FeatureStore, changed: AppRecord) -> None:
    sequence = features.put_apps([AppRecord("com.a")])

    features.put_apps([changed])

    assert features.apps_since(sequence).put == (changed,)


def test_changes_since_zero_are_the_whole_catalogue(features: FeatureStore) -> None:
    sequence = features.put_apps([AppRecord("com.b"), AppRecord("com.a")])

    changes = features.apps_since(0)

    assert {app.id for app in changes.put} == {"com.a", "com.b"}
    assert changes.sequence == sequence


def test_the_pages_of_the_catalogue_are_every_app_once_and_what_changes_meanwhile_comes_after(
    features: FeatureStore,
) -> None:
    apps = [AppRecord(f"com.{number}", {"x": number}, countries=("PT",)) for number in range(2_500)]
    features.put_apps(apps)
    features.delete_app("com.7")
    pages = features.app_pages()
    first = next(pages.pages)
    features.put_apps([AppRecord("com.0", {"x": "meanwhile"}), AppRecord("com.new")])

    told = {app.id: app for page in (first, *pages.pages) for app in page}

    assert len(first) < 2_500 <= pages.count <= 2_501
    assert {app.id for app in apps} - told.keys() == {"com.7"}
    assert told["com.2499"] == apps[2499]
    assert {app.id for app in features.apps_since(pages.sequence).put} == {"com.0", "com.new"}
    assert pages.origin == features.apps_since(0).origin


def test_an_empty_catalogue_has_no_apps_on_its_pages(features: FeatureStore) -> None:
    pages = features.app_pages()

    assert (pages.sequence, pages.count, [*pages.pages]) == (0, 0, [])


def test_who_knows_of_more_changes_than_there_are_is_told_how_many_there_are(features: FeatureStore) -> None:
    empty = features.apps_since(9)
    sequence = features.put_apps([AppRecord("a")])

    beyond = features.apps_since(sequence + 5)

    assert (empty.sequence, empty.put, empty.deleted) == (0, (), ())
    assert (beyond.sequence, beyond.put, beyond.deleted) == (sequence, (), ())


def test_changes_of_one_store_are_all_numbered_by_the_same_origin(features: FeatureStore) -> None:
    features.put_apps([AppRecord("a")])
    origin = features.apps_since(0).origin
    sequence = features.put_apps([AppRecord("a", {"x": 1}), AppRecord("b")])
    features.delete_app("b")

    assert {features.apps_since(number).origin for number in (0, sequence, sequence + 1, sequence + 9)} == {origin}


def test_changes_since_the_last_sequence_are_none(features: FeatureStore) -> None:
    sequence = features.put_apps([AppRecord("com.a")])

    changes = features.apps_since(sequence)

    assert (changes.sequence, changes.put, changes.deleted) == (sequence, (), ())


def test_an_app_changed_twice_is_told_once_as_it_is_now(features: FeatureStore) -> None:
    sequence = features.put_apps([AppRecord("com.a")])
    features.put_apps([AppRecord("com.a", {"x": 1})])
    last = features.put_apps([AppRecord("com.a", {"x": 2})])

    changes = features.apps_since(sequence)

    assert changes.put == (AppRecord("com.a", {"x": 2}),)
    assert changes.sequence == last


def test_a_deleted_app_is_gone_and_told_of(features: FeatureStore) -> None:
    sequence = features.put_apps([AppRecord("com.a", {"x": 1})])

    assert features.delete_app("com.a")
    assert not features.delete_app("com.a")

    changes = features.apps_since(sequence)
    assert features.get_app("com.a") is None
    assert (changes.put, changes.deleted) == ((), ("com.a",))
    assert changes.sequence > sequence


def test_a_deleted_app_that_is_put_again_is_an_app_again(features: FeatureStore) -> None:
    features.put_apps([AppRecord("com.a", {"x": 1})])
    features.delete_app("com.a")

    features.put_apps([AppRecord("com.a", {"x": 1})])

    changes = features.apps_since(0)
    assert (changes.put, changes.deleted) == ((AppRecord("com.a", {"x": 1}),), ())


def test_a_store_that_is_there_answers_a_ping(features: FeatureStore) -> None:
    features.ping()


def installed(user_id: str, app_id: str) -> HistoryChange:
    return HistoryChange(user_id, app_id, installed=True)


def uninstalled(user_id: str, app_id: str) -> HistoryChange:
    return HistoryChange(user_id, app_id, installed=False)


def history(features: FeatureStore, user_id: str) -> list[tuple[str, int]]:
    user = features.get_user(user_id)
    assert user is not None
    return list(user.history.items())


def test_an_app_taken_up_counts_once_and_stands_by_count_and_id(features: FeatureStore) -> None:
    features.put_users([UserRecord("u1", {"country": "PT"}, {"com.z": 9, "com.a": 1, "com.m": 1})])

    features.change_history([installed("u1", "com.b")])

    assert history(features, "u1") == [("com.z", 9), ("com.a", 1), ("com.b", 1), ("com.m", 1)]
    assert features.get_user("u1") == UserRecord("u1", {"country": "PT"}, dict(history(features, "u1")))


def test_an_app_that_is_there_keeps_its_count(features: FeatureStore) -> None:
    features.put_users([UserRecord("u1", history={"com.z": 9})])

    features.change_history([installed("u1", "com.z")])

    assert history(features, "u1") == [("com.z", 9)]


def test_an_app_given_up_is_gone(features: FeatureStore) -> None:
    features.put_users([UserRecord("u1", history={"com.z": 9, "com.a": 1})])

    features.change_history([uninstalled("u1", "com.z"), uninstalled("u1", "com.never")])

    assert history(features, "u1") == [("com.a", 1)]


def test_changes_are_made_in_order_and_making_them_again_changes_nothing(features: FeatureStore) -> None:
    changes = [installed("u1", "a"), uninstalled("u1", "a"), installed("u1", "b"), installed("u2", "a")]
    features.change_history(changes)

    features.change_history(changes)

    assert history(features, "u1") == [("b", 1)]
    assert history(features, "u2") == [("a", 1)]


def test_histories_are_changed_all_or_none(features: FeatureStore) -> None:
    with pytest.raises(ZeroDivisionError):
        features.change_history(half_of_the_changes())

    assert features.get_user("u1") is None


def half_of_the_changes() -> Iterator[HistoryChange]:
    yield installed("u1", "com.a")
    raise ZeroDivisionError


def test_every_user_is_read_once(features: FeatureStore) -> None:
    assert list(features.users()) == []
    everyone = [UserRecord(f"u{number}", {"age": number}, {"com.a": 1}) for number in range(2_500)]
    features.put_users([*everyone, UserRecord("")])
    features.delete_user("u7")

    found = {user.id: user for user in features.users()}

    assert len(found) == 2_500
    assert found["u8"] == everyone[8]
    assert "u7" not in found
