"""What sharded training refuses, or cannot go on with."""


class ShardedRefusal(RuntimeError):
    """Base of what follows; the message names the thing, what was seen and the next step."""


class ShardsUnusable(ShardedRefusal):
    """Shards are missing, damaged, of other data or too few."""


class Unshardable(ShardedRefusal):
    """A net has rows of ids that lie outside the layers whose tables can be sharded."""


class TablesDoNotFit(ShardedRefusal):
    """The planner finds no place for the tables in the memory of all ranks."""


class CheckpointUnusable(ShardedRefusal):
    """A checkpoint cannot be read."""


class CheckpointUnwritten(ShardedRefusal):
    """A checkpoint cannot be written; the one before it stands."""


class NotDistributed(ShardedRefusal):
    """Something that training on one machine does and this does not."""
