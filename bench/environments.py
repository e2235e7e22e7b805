"""A virtual environment for each peer, made when it is first needed and kept in the benchmark's cache."""

import hashlib
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MARK = "installed"


@dataclass(frozen=True)
class Environment:
    """What one peer needs. pinned: what the project pins too comes in the project's version; else only torch does."""

    name: str
    packages: tuple[str, ...]
    torch: bool = True
    pinned: bool = True

    def python(self, cache: Path) -> Path:
        """The interpreter; the environment is made where it is not there. Raises CalledProcessError where pip fails."""
        held = LOCK.read_text(encoding="utf-8") if self.pinned else pinned("torch") if self.torch else ""
        key = hashlib.sha256("\n".join((*self.packages, held)).encode()).hexdigest()
        folder = cache / "environments" / f"{self.name}-{key[:8]}"
        python = folder / "bin" / "python"
        if not (folder / MARK).exists():
            print(f"installing {', '.join(self.packages)} into {folder}", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            self._install(python)
            (folder / MARK).touch()
        return python

    def _install(self, python: Path) -> None:
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        if self.torch:  # first and alone, the CPU build where its index answers, as the Makefile does it
            version = pinned("torch")
            from_cpu = [*pip, "--retries", "0", "--timeout", "15", "--index-url", CPU_INDEX, version]
            if subprocess.run(from_cpu, stderr=subprocess.DEVNULL, check=False).returncode:
                subprocess.run([*pip, version], check=True)
        held = ("--constraint", str(LOCK)) if self.pinned else (pinned("torch"),) if self.torch else ()
        subprocess.run([*pip, *held, *self.packages], check=True)


def pinned(package: str) -> str:
    """`package==version` as the project pins it."""
    found = re.search(rf"^{re.escape(package)}==\S+$", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{LOCK} does not pin {package}")
    return found.group()


HTTP = ("fastapi", "numpy", "pydantic", "uvicorn", "uvloop", "httptools")
FASTAPI_TORCH = Environment("fastapi-torch", HTTP)
OPENVINO = Environment("openvino", (*HTTP, "openvino==2026.4.1"), torch=False)
LITSERVE = Environment("litserve", (*HTTP, "litserve==0.2.19"))

ESTIMATOR = Environment("estimator", ("tensorflow-cpu==2.15.1",), torch=False, pinned=False)
FUXICTR = Environment("fuxictr", ("fuxictr==2.3.10", "polars<2"), pinned=False)
DEEPCTR = Environment("deepctr-torch", ("deepctr-torch==0.3.0", "tensorflow-cpu==2.15.1", "requests"), pinned=False)
WIDEDEEP = Environment("pytorch-widedeep", ("pytorch-widedeep==1.7.0",), pinned=False)
