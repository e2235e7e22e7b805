"""Every setting of the service: a variable `APPSHELF_NAME`, its bounds, its default and what it does."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from model.report import PrecisionSetting
from service.errors import SettingsRefused
from service.settings_file import NAME, read_settings

PREFIX = "APPSHELF_"
DAY_S = 86_400.0
PATIENT_S = 10.0

Key = Annotated[SecretStr, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class SettingRow:
    """One setting as a person is shown it; a secret's value is masked."""

    name: str
    value: str
    default: str
    source: Literal["environment", "file", "default"]
    description: str


class Settings(BaseSettings):
    """What an operator may set. The environment and the home's file are read by `from_env` and nowhere else."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    _from_file: frozenset[str] = PrivateAttr(frozenset())

    home: Path = Field(Path("var"), description="Folder of the embedded store, the bundles and the imported data.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: Count = Field(1, description="Serving processes.")
    torch_threads: Count = Field(1, description="Threads that torch uses within one serving process.")
    precision: PrecisionSetting = Field(
        "auto", description="What versions serve in: exact, fast (bf16), or fast where the gate saw that it agrees."
    )
    admin_key: Key | None = Field(None, description="Key of the admin calls; without it one is made at first start.")
    rank_key: Key | None = Field(None, description="Key of POST /rank; without it the call is open.")
    events_key: Key | None = Field(
        None, description="Key of the calls that write users, apps and events; without it they are open."
    )
    allow_public: bool = Field(False, description="Allow calls without a key to be served beyond this machine.")
    max_candidates: Count = Field(10_000, description="Candidates that one request may name.")
    max_k: Count = Field(100, description="Items that one request may ask for.")
    max_body_bytes: Count = Field(4 * 1024 * 1024, description="Bytes that one request's body may have.")
    max_events: Count = Field(10_000, description="Events that one request may send.")
    keep_versions: Count = Field(
        20, description="Newest bundles kept; those that serve or may be gone back to are too."
    )
    keep_runs: Count = Field(
        100, description="Runs of comparisons kept, those used last; all that one comparison uses are too."
    )
    max_under_way: Count = Field(128, description="Rankings that one worker takes on at a time; past it 503 at once.")
    batch_limit: Count = Field(8, description="Rankings that one worker scores together at most.")
    shed_after_s: Seconds = Field(0.1, description="Seconds that a ranking may wait for its turn; past it 503 at once.")
    rollout_deadline_s: Seconds = Field(1_800.0, description="Seconds for every serving process to prepare a version.")
    lease_timeout_s: Seconds = Field(5.0, description="Seconds without a heartbeat until a process counts as gone.")
    poll_s: Seconds = Field(0.2, description="Seconds between two looks of a serving process at the store.")
    redis_url: Key | None = Field(
        None,
        description="Redis for the store and the jobs: redis://, rediss://, redis+sentinel:// or redis+cluster://.",
    )
    redis_timeout_s: Seconds = Field(0.1, description="Seconds that a ranking waits for Redis.")
    rank_budget_s: Seconds = Field(0.5, description="Seconds after which a ranking is answered by popularity.")
    user_copies: Count = Field(50_000, description="Users that one worker keeps a copy of, for when the store is away.")
    user_rows: Count = Field(10_000, description="Users whose side of the network one worker keeps computed.")
    bundles_url: str | None = Field(None, description="Where bundles are shared: file:///..., s3://bucket/prefix, ...")
    impression_buffer: Count = Field(10_000, description="Impressions that one worker holds back before it drops some.")
    attribution_window_s: Seconds = Field(DAY_S, description="Seconds after an impression in which an event counts.")
    log_keep_days: Seconds = Field(90.0, description="Days that impressions and events are kept.")
    log_keep_impressions: Count = Field(1_000_000, description="Newest impressions that are kept.")
    log_keep_events: Count = Field(1_000_000, description="Newest events that are kept, and what was shown since.")
    retrain_schedule: str | None = Field(None, description="When to retrain, in UTC, as cron's five fields: 0 3 * * *.")
    retrain_mode: Literal["incremental", "full"] = Field(
        "incremental", description="Learn from what is new with old rows among it, or from the whole window."
    )
    retrain_window_days: Seconds = Field(30.0, description="Days of the log that a retraining may look back.")
    retrain_replay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1.0, description="Old rows learned again for each new row of an incremental retraining."
    )
    retrain_attempts: Count = Field(3, description="Times that a retraining is begun before it counts as failed.")
    retrain_timeout_s: Seconds = Field(21_600.0, description="Seconds after which a retraining is ended.")
    job_lease_s: Seconds = Field(
        30.0,
        description="Seconds without a sign from a worker, or from a promote, until its job, or turn, is another's.",
    )
    bootstrap: Literal["none", "demo"] = Field(
        "none", description="What a worker does where nothing is live: nothing, or make, train and promote the demo."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")

    @field_validator("admin_key", "rank_key", "events_key")
    @classmethod
    def _can_be_sent(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key else ""
        if text != text.strip() or not (text.isascii() and text.isprintable()):
            raise ValueError(
                "no client can send it in a header, which takes ASCII letters with no space or line break at an end"
            )
        return key

    @field_validator("retrain_schedule")
    @classmethod
    def _is_cron(cls, text: str | None) -> str | None:
        if text is not None:
            from service.jobs.schedule import Schedule  # here, since few have one and huey takes a while to import

            Schedule.parse(text)
        return text

    @model_validator(mode="after")
    def _lease_outlives_polls(self) -> Self:
        if self.lease_timeout_s < 4 * self.poll_s:
            raise ValueError(f"lease_timeout_s {self.lease_timeout_s} is under four times poll_s {self.poll_s}")
        return self

    @model_validator(mode="after")
    def _redis_is_not_waited_for_longer_than_a_turn(self) -> Self:
        if self.redis_url is not None and self.redis_timeout_s > self.shed_after_s:
            raise ValueError(
                f"redis_timeout_s {self.redis_timeout_s} is over shed_after_s {self.shed_after_s}, "
                "so rankings would be refused while Redis is waited for"
            )
        return self

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the sources that `others` are go unused
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        **others: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the constructor is given and nothing from the process around it."""
        return (init_settings,)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """The settings of these variables, over those of the file in the home that they name.

        Raises SettingsRefused naming an unknown one or one that is not allowed, and the file where it stands there.
        """
        given = {name: value for name, value in env.items() if name.startswith(PREFIX)}
        for name in given:
            _refuse_unknown(name, [variable(field) for field in cls.model_fields])
        source = EnvSettingsSource(cls)
        source.env_vars = {name.lower(): value for name, value in given.items()}
        by_env = source()
        home = Path(given.get(variable("home"), cls.model_fields["home"].default))
        in_file = read_settings(home)
        for name in in_file:
            _refuse_unknown(name, [field for field in cls.model_fields if field != "home"], where=f"{home / NAME}: ")
        from_file = {name: value for name, value in in_file.items() if name not in by_env}
        try:
            settings = cls(**from_file, **by_env)
        except ValidationError as error:
            raise SettingsRefused(_sentence(error.errors()[0], given, home / NAME, from_file)) from error
        settings._from_file = frozenset(from_file)
        return settings

    def patient(self) -> Self:
        """The same for a process that no ranking waits for: Redis is given PATIENT_S for each answer."""
        return self.model_copy(update={"redis_timeout_s": max(self.redis_timeout_s, PATIENT_S)})

    def describe(self) -> tuple[SettingRow, ...]:
        """Every setting in the order declared, secrets masked."""
        return tuple(
            SettingRow(
                name=variable(name),
                value=_text(getattr(self, name)),
                default=_text(field.default),
                source=self._source(name),
                description=field.description or "",
            )
            for name, field in type(self).model_fields.items()
        )

    def _source(self, name: str) -> Literal["environment", "file", "default"]:
        if name in self._from_file:
            return "file"
        return "environment" if name in self.model_fields_set else "default"


def variable(field: str) -> str:
    """The environment variable that sets a field."""
    return PREFIX + field.upper()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _refuse_unknown(name: str, known: Sequence[str], *, where: str = "") -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise SettingsRefused(
            f"{where}{name} is not a setting; the nearest is {near}, `appshelf config show` lists all"
        )


def _sentence(error: ErrorDetails, given: Mapping[str, str], file: Path, from_file: Mapping[str, Any]) -> str:
    """One sentence on the first thing wrong; a secret's value is not repeated."""
    if not error["loc"]:
        return f"the settings do not fit together: {error['msg']}; `appshelf config show` lists them"
    field = str(error["loc"][0])
    name = f"{file}: {field}" if field in from_file else variable(field)
    secret = field.endswith(("_key", "redis_url"))
    seen = "the value given" if secret else repr(from_file.get(field, given.get(variable(field))))
    return f"{name} does not allow {seen}: {error['msg']}; `appshelf config show` lists the settings"
