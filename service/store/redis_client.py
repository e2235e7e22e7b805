"""One Redis as the stores see it: commands in, answers out, and every failure told as StoreUnavailable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from threading import Lock
from typing import Any

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from service.errors import StoreUnavailable
from service.store.redis_url import Client, client_of, public_name

Argument = str | bytes | int | float
Command = Sequence[Argument]
Row = tuple[Argument, ...]


@dataclass(frozen=True)
class Script:
    """A Lua script: it runs alone on its server, and it reads and writes only keys that it is given."""

    text: str

    @cached_property
    def sha(self) -> str:
        """What a server that has run it once knows it by."""
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """A way to one Redis, for any number of threads; answers are bytes, as RESP 2 has them.

    name: its URL without a password. Nothing is connected before it is asked. Every method raises StoreUnavailable
    where Redis is away, too slow, loading, full, or has no such command.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self.name = public_name(url)
        self._make = client_of(url, timeout_s)
        self._made: Client | None = None
        self._making = Lock()

    def ask(self, *command: Argument) -> Any:  # noqa: ANN401  # whatever the command answers
        """The answer to one command, in one round trip."""
        with self.reaching() as client:
            return client.execute_command(*command)

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:  # noqa: ANN401
        """What a script answers; one round trip once the server has run it before."""
        with self.reaching() as client:
            try:
                return client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands whose keys lie in one slot: one round trip, all carried out or none."""
        return self._pipeline(commands, transaction=True)

    def each(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands on any keys: one round trip, all or none; on a cluster, each one by itself."""
        return self._pipeline(commands, transaction=not self.clustered)

    def keys(self, prefix: str) -> Iterator[bytes]:
        """Every key with this prefix, in no order; seldom one twice. Looks through all keys, some at a time."""
        with self.reaching() as client:
            yield from client.scan_iter(match=f"{_plain(prefix)}*", count=1_000)

    @contextmanager
    def reaching(self) -> Iterator[Any]:
        """The client itself, for what is not a command."""
        try:
            yield self._client()
        except (RedisError, RedisClusterException, OSError) as error:
            raise StoreUnavailable(self.name, str(error) or type(error).__name__) from error

    @cached_property
    def clustered(self) -> bool:
        """True where keys are spread over several servers."""
        return self.name.startswith("redis+cluster:")

    def close(self) -> None:
        """Close every idle connection; asked again, it connects again."""
        if self._made is not None:
            self._made.close()

    def _pipeline(self, commands: Sequence[Command], *, transaction: bool) -> list[Any]:
        if not commands:
            return []
        with self.reaching() as client, client.pipeline(transaction=transaction) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
            return answers

    def _client(self) -> Client:
        """The client; that of a cluster is made when somebody first reaches it."""
        if self._made is None:
            with self._making:
                if self._made is None:
                    self._made = self._make()
        return self._made


def _plain(prefix: str) -> str:
    """The prefix as a pattern that means itself."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in prefix)
