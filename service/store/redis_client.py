"""One Redis as the stores see it: commands in, answers out, and every failure told as StoreUnavailable."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from itertools import islice
from threading import Lock
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisClusterException, RedisError, ResponseError

from service.breaker import Breaker, Turn
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


PAGE = 1_000
LONGEST = 4_000
"""Words of a command that a script can still put together."""

TOGETHER = Script("""
local answers, n = {}, 1
while n < #ARGV do
    answers[#answers + 1] = redis.call(unpack(ARGV, n + 1, n + ARGV[n]))
    n = n + ARGV[n] + 1
end
return answers
""")


class RedisLink:
    """A way to one Redis, for any number of threads; answers are bytes, as RESP 2 has them.

    name: its URL without a password. Nothing is connected before it is asked. Every method raises StoreUnavailable
    where Redis is away, too slow, loading, full, or has no such command. breaker: leaves a Redis that did not answer
    alone for a moment, so that of many who would wait for the timeout only some do.
    """

    def __init__(self, url: str, *, timeout_s: float, breaker: Breaker | None = None) -> None:
        self.name = public_name(url)
        self._breaker = breaker
        self._make = client_of(url, timeout_s)
        self._made: Client | None = None
        self._making = Lock()

    def ask(self, *command: Argument) -> Any:  # noqa: ANN401  # whatever the command answers
        """The answer to one command, in one round trip."""
        with self.reaching() as client:
            return client.execute_command(*command)

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:  # noqa: ANN401
        """What a script answers; one round trip once the server has run it before."""
        with self.reaching() as client:
            try:
                return client.execute_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return client.execute_command("EVAL", script.text, len(keys), *keys, *arguments)

    def together(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands on keys of one slot, each named first: one round trip, all carried out or none.

        A full Redis reads and removes this way, which it does not within MULTI. No command has over LONGEST words.
        """
        keys = [str(command[1]) for command in commands]
        words = [word for command in commands for word in (len(command), *command)]
        answers: list[Any] = self.run(TOGETHER, keys, words) if commands else []
        return answers

    def each(self, commands: Sequence[Command], *, whole: bool = False) -> list[Any]:
        """The answers to commands on any keys, in one round trip to each server.

        whole: all are carried out or none, where there is one server; on a cluster each stands for itself.
        """
        if not commands:
            return []
        transaction = whole and not self.clustered
        with self.reaching() as client, client.pipeline(transaction=transaction) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
            return answers

    def keys(self, prefix: str) -> Iterator[bytes]:
        """Every key with this prefix, in no order; seldom one twice. Looks through all keys, some at a time."""
        with self.reaching() as client:
            found = client.scan_iter(match=f"{_plain(prefix)}*", count=PAGE)
        while True:
            with self.reaching():  # not while the caller works with them
                page = list(islice(found, PAGE))
            if not page:
                return
            yield from page

    @contextmanager
    def reaching(self) -> Iterator[Any]:
        """The client itself, for what is not a command."""
        turn = self._breaker.enter() if self._breaker else Turn.SHARED
        if turn is None:
            raise StoreUnavailable(self.name, "it did not answer a moment ago, and is asked again in another")
        answered = True
        try:
            yield self._client()
        except (RedisError, RedisClusterException, OSError) as error:
            answered = isinstance(error, ResponseError)  # a refusal, as of a write by a full Redis, comes at once
            if isinstance(error, ReadOnlyError) and isinstance(self._made, Redis):
                self._made.connection_pool.disconnect(inuse_connections=False)  # its name may be the new master's
            raise StoreUnavailable(self.name, _reason(error)) from error
        finally:
            if self._breaker:
                self._breaker.leave(turn, answered=answered)

    @cached_property
    def clustered(self) -> bool:
        """True where keys are spread over several servers."""
        return self.name.startswith("redis+cluster:")

    def close(self) -> None:
        """Close every idle connection; asked again, it connects again."""
        if self._made is not None:
            self._made.close()

    def _client(self) -> Client:
        """The client; that of a cluster is made when somebody first reaches it."""
        if self._made is None:
            with self._making:
                if self._made is None:
                    self._made = self._make()
        return self._made


def _reason(error: Exception) -> str:
    """What an error says, without the command that redis-py puts before it, with values, or the clients behind it."""
    told = str(error).rpartition(" of pipeline caused error: ")[2].partition(" : <redis.")[0]
    return told or type(error).__name__


def _plain(prefix: str) -> str:
    """The prefix as a pattern that means itself."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in prefix)
