"""The tables of the embedded log's file: steps as in sqlite_layout, never edited."""

LOG_LAYOUT: tuple[tuple[str, ...], ...] = (
    (
        # `shown` repeats the app ids of `body`, so that judging an event reads no feature values.
        """CREATE TABLE impressions (
            id INTEGER PRIMARY KEY, request_id TEXT NOT NULL UNIQUE, at REAL NOT NULL, user_id TEXT NOT NULL,
            shown BLOB NOT NULL, body BLOB NOT NULL)""",
        "CREATE INDEX impressions_by_time ON impressions (at)",
        "CREATE INDEX impressions_by_user ON impressions (user_id)",
        """CREATE TABLE feedback (
            place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at REAL NOT NULL, user_id TEXT, request_id TEXT,
            digest TEXT NOT NULL, settled INTEGER NOT NULL DEFAULT 0, claimed_at REAL, claimed_by TEXT,
            body BLOB NOT NULL)""",
        "CREATE INDEX feedback_by_time ON feedback (at, id)",
        "CREATE INDEX feedback_by_user ON feedback (user_id) WHERE user_id IS NOT NULL",
        "CREATE INDEX feedback_by_request ON feedback (request_id) WHERE request_id IS NOT NULL",
        # Holds the few that nobody has dealt with yet, however long the log.
        "CREATE INDEX unsettled ON feedback (place) WHERE NOT settled",
    ),
    ("CREATE TABLE forgotten (user_id TEXT PRIMARY KEY, at REAL NOT NULL)",),
    (
        # The values of the apps in an impression by their keys, end to end; NULL where `body` holds all of it.
        "ALTER TABLE impressions ADD COLUMN app_values BLOB",
        "CREATE TABLE app_values (key BLOB PRIMARY KEY, until REAL NOT NULL, body BLOB NOT NULL)",
        "CREATE INDEX app_values_by_time ON app_values (until)",
    ),
)
