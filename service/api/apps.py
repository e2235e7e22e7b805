"""`/apps`: the catalogue as stored; a change is on every shelf within a second, with no reload."""

from typing import Annotated

from fastapi import APIRouter, Path

from model.schema import Source
from service.admission import check_batch, live_fields
from service.api.messages import AppMessage, AppsMessage, Id, Stored
from service.api.problems import NotStored
from service.api.records import read_records
from service.engine import Engine
from service.store.ports import AppRecord, FeatureStore

AppId = Annotated[Id, Path(description="The app's id; it may hold slashes.")]


def app_routes(store: FeatureStore, engine: Engine) -> APIRouter:
    """Batch upsert, and reading and withdrawing one app."""
    router = APIRouter(prefix="/apps", tags=["apps"])

    @router.put("")
    def put_apps(body: AppsMessage) -> Stored:
        """Store these apps, all of them or none; an app stored before is replaced."""
        apps = read_records(AppMessage, body.apps, member="apps")
        check_batch((app.features for app in apps), live_fields(engine, Source.APP), at="/apps")
        records = {app.id: record_of(app) for app in apps}
        store.put_apps(records.values())
        return Stored(stored=len(records))

    @router.get("/{app_id:path}")
    def get_app(app_id: AppId) -> AppMessage:
        """The app as stored."""
        if (record := store.get_app(app_id)) is None:
            raise NotStored(f"app {app_id!r} is not stored; PUT /apps stores them")
        return AppMessage(
            id=record.id,
            features=dict(record.features),
            available=record.available,
            countries=list(record.countries),
        )

    @router.delete("/{app_id:path}", status_code=204)
    def delete_app(app_id: AppId) -> None:
        """Take the app out of the catalogue."""
        if not store.delete_app(app_id):
            raise NotStored(f"app {app_id!r} is not stored, so there is nothing to withdraw")

    return router


def record_of(app: AppMessage) -> AppRecord:
    """The store's form of an app."""
    return AppRecord(app.id, app.features, app.available, tuple(app.countries))
