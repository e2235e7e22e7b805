"""What is judged: a bundle beside the live one within limits, as it is told to a process of its own."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from model.report import Limits


@dataclass(frozen=True)
class Trial:
    """challenger, live: folders of bundles; live is None before the first."""

    challenger: Path
    live: Path | None
    limits: Limits

    @property
    def words(self) -> list[str]:
        """The command line that `told` reads."""
        live = ["--live", str(self.live.absolute())] if self.live else []
        return ["--challenger", str(self.challenger.absolute()), *live, "--limits", self.limits.model_dump_json()]

    @classmethod
    def told(cls, words: Sequence[str], *, parser: ArgumentParser) -> tuple[Self, Namespace]:
        """The trial of a command line, and all that was told; `parser` knows the module's own options."""
        parser.add_argument("--challenger", type=Path, required=True, help="folder of the bundle under judgement")
        parser.add_argument("--live", type=Path, help="folder of the bundle that serves")
        parser.add_argument("--limits", type=Limits.model_validate_json, default=Limits(), help="limits as JSON")
        options = parser.parse_args(words)
        return cls(options.challenger, options.live, options.limits), options
