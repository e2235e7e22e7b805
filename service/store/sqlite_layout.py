"""The tables of the embedded store: each step takes a file from one layout number to the next, and is never edited."""

LAYOUT: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE users (id TEXT PRIMARY KEY, features BLOB NOT NULL, history BLOB NOT NULL)",
        # A deleted app stays as a tombstone, so that a process that was away learns of it.
        """CREATE TABLE apps (
            id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, deleted INTEGER NOT NULL,
            features BLOB NOT NULL, available INTEGER NOT NULL, countries BLOB NOT NULL)""",
        "CREATE INDEX apps_by_sequence ON apps (sequence)",
        """CREATE TABLE versions (
            version TEXT PRIMARY KEY, state TEXT NOT NULL, created_at TEXT NOT NULL, architecture TEXT NOT NULL,
            recipe TEXT NOT NULL, parent TEXT, metrics BLOB NOT NULL, report TEXT)""",
        # The row in state live is the live pointer, and this index is what keeps it the only one.
        "CREATE UNIQUE INDEX one_live ON versions (state) WHERE state = 'live'",
        """CREATE TABLE history (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, version TEXT NOT NULL, was TEXT, became TEXT NOT NULL,
            who TEXT NOT NULL, why TEXT NOT NULL, forced INTEGER NOT NULL)""",
        "CREATE TABLE leases (process TEXT PRIMARY KEY, version TEXT, beat_at REAL NOT NULL)",
        """CREATE TABLE rollouts (
            id INTEGER PRIMARY KEY AUTOINCREMENT, version TEXT NOT NULL, deadline REAL NOT NULL, outcome TEXT)""",
        "CREATE UNIQUE INDEX one_rollout ON rollouts (outcome IS NULL) WHERE outcome IS NULL",
        """CREATE TABLE votes (
            rollout INTEGER NOT NULL, process TEXT NOT NULL, ok INTEGER NOT NULL, detail TEXT NOT NULL,
            PRIMARY KEY (rollout, process))""",
    ),
    (
        """CREATE TABLE jobs (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, options BLOB NOT NULL, who TEXT NOT NULL, queued_at REAL NOT NULL,
            state TEXT NOT NULL, attempt INTEGER NOT NULL, began_at REAL, ended_at REAL, progress BLOB NOT NULL,
            result BLOB, cancel_asked INTEGER NOT NULL)""",
        "CREATE INDEX jobs_by_time ON jobs (queued_at)",
        "CREATE TABLE job_lines (id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, at REAL NOT NULL, text TEXT)",
        "CREATE INDEX lines_by_job ON job_lines (job, id)",
        "CREATE TABLE job_leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL)",
    ),
    (
        # The numbers of this file's apps: another file at the same place, or one begun anew, does not go on with them.
        "CREATE TABLE catalogue_origin (name TEXT NOT NULL)",
        "INSERT INTO catalogue_origin VALUES (lower(hex(randomblob(8))))",
    ),
)
