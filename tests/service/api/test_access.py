"""Keys by scope: who gets in, who is asked for a key, and who is turned away."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from service.container import build
from tests.service.store_front import settings
from tests.service.wire import ADMIN, Client, problem, serving

CALLS = {
    "rank": ("POST", "/rank"),
    "users": ("PUT", "/users"),
    "a user": ("GET", "/users/u1"),
    "apps": ("PUT", "/apps"),
    "an app": ("DELETE", "/apps/com.a"),
}
ADMIN_CALLS = [
    ("GET", "/admin/versions"),
    ("GET", "/admin/versions/20260101T000000Z-aaaaaa"),
    ("POST", "/admin/versions/20260101T000000Z-aaaaaa/gate"),
    ("POST", "/admin/versions/20260101T000000Z-aaaaaa/rank"),
    ("POST", "/admin/reload"),
    ("POST", "/admin/rollback"),
]
PROBES = ["/livez", "/healthz", "/readyz", "/metrics", "/version", "/docs", "/openapi.json"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    keys = {"rank_key": SecretStr("rank key"), "events_key": SecretStr("events key")}
    home = tmp_path_factory.mktemp("keyed")
    with serving(build(settings(home).model_copy(update=keys))) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), ADMIN_CALLS)
def test_admin_calls_always_need_the_admin_key(reader: Client, method: str, path: str) -> None:
    refused = reader.request(method, path)
    problem(refused, 401)
    assert refused.headers["www-authenticate"].startswith("Bearer")
    problem(reader.request(method, path, headers=bearer("a guess")), 403)


@pytest.mark.parametrize("sent", ["the admin key", "Basic dGhlIGFkbWluIGtleQ==", "Bearer", "Bearer "])
def test_a_key_that_is_not_sent_as_a_bearer_is_no_key(reader: Client, sent: str) -> None:
    problem(reader.get("/admin/versions", headers={"Authorization": sent}), 401)


def test_the_admin_key_opens_admin_calls(reader: Client) -> None:
    assert reader.get("/admin/versions", headers=ADMIN).status_code == 200


@pytest.mark.parametrize("call", CALLS)
def test_without_a_key_set_the_other_calls_are_open(reader: Client, call: str) -> None:
    assert reader.request(*CALLS[call]).status_code not in (401, 403)


@pytest.mark.parametrize("call", CALLS)
def test_with_a_key_set_the_other_calls_need_the_key_of_their_own_scope(keyed: Client, call: str) -> None:
    own, other = ("rank key", "events key") if call == "rank" else ("events key", "rank key")
    problem(keyed.request(*CALLS[call]), 401)
    problem(keyed.request(*CALLS[call], headers=bearer(other)), 403)
    assert keyed.request(*CALLS[call], headers=bearer(own)).status_code not in (401, 403)


@pytest.mark.parametrize("path", PROBES)
def test_probes_and_docs_never_need_a_key(keyed: Client, path: str) -> None:
    assert keyed.get(path).status_code in (200, 503)
