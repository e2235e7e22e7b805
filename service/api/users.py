"""`/users`: what is stored of users and what they have installed."""

from typing import Annotated

from fastapi import APIRouter, Path

from model.schema import Source
from service.admission import check_batch, live_fields
from service.api.bounds import Bounds, TooManyCandidates
from service.api.messages import Id, Stored, UserMessage, UsersMessage, history_of
from service.api.problems import NotStored
from service.api.records import read_records
from service.container import Container
from service.store.ports import UserRecord

UserId = Annotated[Id, Path(description="The user's id; it may hold slashes.")]


def user_routes(container: Container, bounds: Bounds) -> APIRouter:
    """Batch upsert, and reading and forgetting one user."""
    router, store, engine = APIRouter(prefix="/users", tags=["users"]), container.features, container.engine
    log, impressions = container.log, container.impressions

    @router.put("")
    def put_users(body: UsersMessage) -> Stored:
        """Store these users, all of them or none; a user stored before is replaced."""
        users = read_records(UserMessage, body.users, member="users")
        for user in users:
            check_history(user, bounds.max_candidates)
        check_batch((user.features for user in users), live_fields(engine, Source.USER), at="/users")
        records = {user.id: record_of(user) for user in users}
        store.put_users(records.values())
        return Stored(stored=len(records))

    @router.get("/{user_id:path}")
    def get_user(user_id: UserId) -> UserMessage:
        """The user as stored."""
        if (record := store.get_user(user_id)) is None:
            raise NotStored(f"user {user_id!r} is not stored; PUT /users stores them")
        history = dict(record.history)
        return UserMessage(id=record.id, features=dict(record.features), installed=list(history), uses=history)

    @router.delete("/{user_id:path}", status_code=204)
    def delete_user(user_id: UserId) -> None:
        """Forget the user and everything known of them: features, history, and all that was logged of them."""
        logged = impressions.forget_user(user_id) + log.forget_user(user_id)
        if not store.delete_user(user_id) and not logged:
            raise NotStored(f"user {user_id!r} is neither stored nor in the log, so there is nothing to forget")

    return router


def check_history(user: UserMessage, limit: int) -> None:
    """Raise TooManyCandidates for a user whom a ranking would be refused: each of theirs reads and logs all of it."""
    for member, count in (("installed", len(user.installed)), ("uses", len(user.uses))):
        if count > limit:
            raise TooManyCandidates(count, limit=limit, member=f"{member} of user {user.id[:80]!r}")


def record_of(user: UserMessage) -> UserRecord:
    """The store's form of a user."""
    return UserRecord(user.id, user.features, history_of(user.installed, user.uses))
