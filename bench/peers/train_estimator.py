"""TensorFlow's DNNLinearCombinedClassifier with its default optimizers, FTRL and AdaGrad: the paper's own code."""

import time
from typing import Any

import tensorflow as tf

from bench.peers.train_rows import WARM, Rows, cpu_s, given, report


def classifier(rows: Rows) -> "tf.estimator.Estimator":
    """The network."""
    column = tf.feature_column
    named = zip(rows.names, rows.sizes, strict=True)
    ids = [column.categorical_column_with_identity(name, size) for name, size in named]
    numbers = [column.numeric_column(name) for name in rows.numbers]
    threads = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    quiet = tf.estimator.RunConfig(
        session_config=threads, save_checkpoints_steps=None, save_checkpoints_secs=None, log_step_count_steps=None,
        save_summary_steps=10_000,
    )  # fmt: skip
    return tf.estimator.DNNLinearCombinedClassifier(
        linear_feature_columns=[*ids, *numbers],
        dnn_feature_columns=[*(column.embedding_column(one, rows.dim) for one in ids), *numbers],
        dnn_hidden_units=list(rows.hidden), dnn_dropout=rows.dropout or None, batch_norm=rows.batch_norm,
        config=quiet,
    )  # fmt: skip


def batches(rows: Rows) -> "tf.data.Dataset":
    """Whole batches of shuffled rows, gathered at once: batching single rows would take most of a step."""
    ids, dense, label = tf.constant(rows.ids), tf.constant(rows.dense), tf.constant(rows.label[:, None])

    def gathered(places: "tf.Tensor") -> tuple[dict[str, Any], Any]:
        columns = dict(zip(rows.names, tf.unstack(tf.gather(ids, places), axis=1), strict=True))
        if rows.numbers:
            columns |= dict(zip(rows.numbers, tf.unstack(tf.gather(dense, places), axis=1), strict=True))
        return columns, tf.gather(label, places)

    shuffled = tf.data.Dataset.range(len(rows)).shuffle(len(rows), seed=0).repeat()
    return shuffled.batch(rows.batch, drop_remainder=True).map(gathered)


class Timed(tf.estimator.SessionRunHook):  # type: ignore[misc]  # it has no types
    """Takes the time between the end of the step before the first one counted and the end of the last."""

    def __init__(self, steps: int, batch: int) -> None:
        self.steps, self.batch, self.done = steps, batch, 0
        self.wall = self.cpu = 0.0

    def after_run(self, context: object, values: object) -> None:
        """Count a step."""
        self.done += 1
        if self.done == WARM:
            self.wall, self.cpu = time.perf_counter(), cpu_s()
        if self.done == WARM + self.steps:
            wall_s, spent_s = time.perf_counter() - self.wall, cpu_s() - self.cpu
            report(self.steps * self.batch, wall_s=wall_s, spent_s=spent_s)


def main() -> None:
    """Train for as many steps as an epoch has."""
    rows = given()
    steps = len(rows) // rows.batch
    classifier(rows).train(lambda: batches(rows), hooks=[Timed(steps, rows.batch)], steps=WARM + steps)


if __name__ == "__main__":
    main()
