"""What rows know of all users, beside what they know of their own."""

import numpy as np
import polars as pl

from model.data.past import AFTER_ALL_US, Past, is_event, moment
from model.data.together import Entries
from model.population import NOWHERE, Floats, Ints


def in_context(past: Past, rows: pl.DataFrame, by: str) -> Floats:
    """(B,) users known to use each row's app under the row's value of a field, but by the row's own event alone."""
    value = pl.col(by) if by in rows.columns else pl.lit(None, pl.String)
    known = rows.select("user_id", "app_id", *([moment()] if past.timed else []), value=value)
    return past.uses_by(by).known(known if past.timed else known.with_columns(is_event=is_event(rows)))


def similar(past: Past, rows: pl.DataFrame, known: pl.DataFrame) -> Floats:
    """(B,) how near each row's app is to the others that its user was known to use.

    known: every such app of each row: row, own_app, app_id, and since when (first). A user counts among those who have
    an app where that was before the row's window began; without times the row's own event counts too. As only other
    users are looked at, it is then taken off.
    """
    together, window = past.together, past.windows(rows)
    counted = rows.join(past.counted.with_columns(here=True), on="user_id", how="left", maintain_order="left")["here"]
    is_counted, row = counted.fill_null(False).to_numpy(), known["row"].to_numpy().astype(np.int64)
    first = known["first"].to_numpy()
    passed = np.searchsorted(together.bounds, first, side="right")
    other_had = (passed < window[row]) & (first < AFTER_ALL_US) & is_counted[row]
    own_had = np.zeros(len(rows), dtype=np.bool_) if past.timed else is_event(rows).to_numpy() & is_counted
    is_own = (known["app_id"] == known["own_app"]).to_numpy()
    own_had[row[is_own]] |= other_had[is_own]
    own, other = (_ordinals(past, known[name]) for name in ("own_app", "app_id"))
    entries = Entries(row, own, other, window[row], own_had[row], other_had)
    return together.similar(entries, rows=len(rows))


def _ordinals(past: Past, apps: pl.Series) -> Ints:
    return apps.replace_strict(
        past.ordinals["app_id"], past.ordinals["app"], default=NOWHERE, return_dtype=pl.Int64
    ).to_numpy()
