"""From a Redis URL to a client: one server, a socket, a master that sentinels name, or a cluster."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from service.errors import SettingsRefused

Client = Redis | RedisCluster
Options = Mapping[str, Any]

REDIS_PORT, SENTINEL_PORT = 6379, 26379
FORMS = (
    "redis://host:6379/0, rediss://host:6380/0, unix:///path/to.sock, "
    "redis+sentinel://host1:26379,host2:26379/master/0 or redis+cluster://host1:7000,host2:7001"
)


def client_of(url: str, timeout_s: float) -> Callable[[], Client]:
    """What makes a client of this URL; each connect and each read of it may last `timeout_s` seconds.

    Credentials (`user:password@`) go to the data servers; sentinels are asked without, or with `sentinel_username` and
    `sentinel_password` from the URL's query. Only a cluster is contacted when the client is made. Raises
    SettingsRefused for a URL that is none of FORMS, without repeating it, as it may hold a password.
    """
    try:
        parts = urlsplit(url)
        maker = MAKERS.get(parts.scheme) or _refuse("it begins with none of the schemes that are allowed")
        return maker(parts, _options(timeout_s))
    except (ValueError, TypeError):  # a part, or an option that there is none of; their text may repeat a password
        _refuse("its address, database or options cannot be read")


def public_name(url: str) -> str:
    """The URL without credentials and options, for people to read."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _options(timeout_s: float) -> dict[str, Any]:
    """Of every connection.

    Nothing is tried twice here: who waits has a budget, and a command whose answer was lost may have been carried out.
    RESP 2 lets the pool see that an idle connection was closed, and so a restart costs no failed command.
    """
    limits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    return {**limits, "retry": Retry(NoBackoff(), 0), "protocol": 2, "driver_info": None}


def _single(parts: SplitResult, options: Options) -> Callable[[], Client]:
    _number(parts.path.strip("/") or "0")
    return _opened(Redis.from_url(parts.geturl(), **options))


def _by_socket(parts: SplitResult, options: Options) -> Callable[[], Client]:
    return _opened(Redis.from_url(f"unix://{parts.netloc}{parts.path}?{parts.query}", **options))


def _by_sentinel(parts: SplitResult, options: Options) -> Callable[[], Client]:
    master, _, database = parts.path.strip("/").partition("/")
    if not master:
        _refuse("it names no master after the sentinels")
    own = _own_options(parts, database or "0")
    access = {name: own.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in own}
    addresses = _addresses(parts, SENTINEL_PORT)
    sentinels = Sentinel(addresses, sentinel_kwargs={**options, **access})  # type: ignore[no-untyped-call]  # redis-py's
    return _opened(sentinels.master_for(master, **{**options, **own}))  # type: ignore[no-untyped-call]  # redis-py's


def _clustered(parts: SplitResult, options: Options) -> Callable[[], Client]:
    if parts.path.strip("/"):
        _refuse("it names a database, and a cluster has none")
    own = _own_options(parts, "0")
    own.pop("db")
    Connection(**{**options, **own})  # type: ignore[no-untyped-call]  # finds out options that there are none of
    addresses = _addresses(parts, REDIS_PORT)
    nodes = [ClusterNode(*one) for one in addresses]  # type: ignore[no-untyped-call]  # redis-py's
    return lambda: RedisCluster(startup_nodes=nodes, **{**options, **own})


def _opened(client: Redis) -> Callable[[], Client]:
    """The client; a connection that is made and not used finds out options that there are none of. Raises TypeError."""
    client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    return lambda: client


MAKERS: Mapping[str, Callable[[SplitResult, Options], Callable[[], Client]]] = {
    "redis": _single,
    "rediss": _single,
    "unix": _by_socket,
    "redis+sentinel": _by_sentinel,
    "redis+cluster": _clustered,
}


def _addresses(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    """(host, port) of each of the URL's servers. Raises ValueError."""
    places = [urlsplit(f"//{place}") for place in parts.netloc.rpartition("@")[2].split(",")]
    found = [(place.hostname, place.port or default_port) for place in places if place.hostname]
    if len(found) < len(places):
        _refuse("a host is missing among its addresses")
    return found


def _own_options(parts: SplitResult, database: str) -> dict[str, Any]:
    """Credentials, database and query of a URL with several hosts, read as redis-py reads those of one."""
    credentials = parts.netloc.rpartition("@")[0]
    text = f"redis://{credentials}@host/{_number(database)}?{parts.query}"
    read: dict[str, Any] = parse_url(text)  # type: ignore[no-untyped-call]  # redis-py's
    return {name: value for name, value in read.items() if name not in ("host", "port")}


def _number(database: str) -> int:
    return int(database) if database.isdecimal() else _refuse("its database is not a number")


def _refuse(reason: str) -> NoReturn:
    raise SettingsRefused(
        f"APPSHELF_REDIS_URL cannot be used ({reason}); write it as {FORMS}, and a / or @ in a password as %2F or %40"
    ) from None
