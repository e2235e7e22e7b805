"""The keys of a store on Redis, and what each holds.

Keys with one {tag} lie in one slot of a cluster, so that a script or a transaction may use them together; users are
spread over all slots. Everything that is not a number or an id is JSON.

    appshelf:user:<user id>                hash    features, history (its order is the history's)
    appshelf:{apps}:rows                   hash    app id -> [features, available, countries]
    appshelf:{apps}:changed                zset    app id by the sequence of its last change; one not in rows is deleted
    appshelf:{apps}:sequence               number  the last sequence given out: the microsecond when that was
    appshelf:{apps}:numbers                zset    the newest sequences given out, by themselves
    appshelf:{apps}:origin                 text    when the first was, which names the numbering
    appshelf:{registry}:versions           hash    version -> entry
    appshelf:{registry}:live               text    the live version
    appshelf:{registry}:history            list    moves, oldest first
    appshelf:{rollout}:leases              hash    process -> lease
    appshelf:{rollout}:last                number  the last rollout's id
    appshelf:{rollout}:current             hash    id, version, deadline of the one under way
    appshelf:{rollout}:votes:<rollout id>  hash    process -> vote; gone a day after the last one
    appshelf:{log}:impressions             hash    request id -> impression, its JSON compressed by zlib
    appshelf:{log}:impressions:at          zset    request id by epoch seconds
    appshelf:{log}:displayed               hash    request id -> [at, user id, [app ids]]
    appshelf:{log}:feedback                hash    event id -> 32 letters of digest, then the event
    appshelf:{log}:feedback:at             zset    event id by epoch seconds
    appshelf:{log}:unsettled               stream  the ids of events to be dealt with; consumer group `settlers`
    appshelf:{log}:places                  hash    event id -> its place in that stream, until it is settled
    appshelf:{log}:user:<user id>          set     i<request id> and e<event id>: what to remove with the user
    appshelf:{log}:forgotten               zset    <user set's key> by epoch seconds, for an hour: who was forgotten
    appshelf:{log}:request:<request id>    set     event ids that name this request
    appshelf:{jobs}:job:<job id>           hash    a field of Job each, those that are None left out
    appshelf:{jobs}:lines:<job id>         list    [at, text]
    appshelf:{jobs}:queued                 zset    job id by queued_at
    appshelf:{jobs}:ended                  zset    ended job id by ended_at
    appshelf:{jobs}:lease:<name>           hash    holder, until
    appshelf:queue                         list    messages of the job queue, which are its own (service.jobs.broker)
    appshelf:news                          pub/sub channel: something that serving processes look for has changed
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Keys:
    """The names above for one prefix; two stores with different prefixes share a Redis without meeting."""

    prefix: str = "appshelf"

    @property
    def news(self) -> str:
        """The channel."""
        return f"{self.prefix}:news"

    @property
    def users(self) -> str:
        """What every user's key begins with."""
        return f"{self.prefix}:user:"

    def apps(self, name: str) -> str:
        """A key of the catalogue."""
        return f"{self.prefix}:{{apps}}:{name}"

    def registry(self, name: str) -> str:
        """A key of the registry."""
        return f"{self.prefix}:{{registry}}:{name}"

    def rollout(self, name: str) -> str:
        """A key of leases, rollouts and votes."""
        return f"{self.prefix}:{{rollout}}:{name}"

    def log(self, name: str) -> str:
        """A key of the log."""
        return f"{self.prefix}:{{log}}:{name}"

    def jobs(self, name: str) -> str:
        """A key of the jobs."""
        return f"{self.prefix}:{{jobs}}:{name}"
