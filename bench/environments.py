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
    """What one peer needs. What the project pins too is installed in the project's version."""

    name: str
    packages: tuple[str, ...]
    torch: bool = True

    def python(self, cache: Path) -> Path:
        """The interpreter; the environment is made where it is not there. Raises CalledProcessError where pip fails."""
        key = hashlib.sha256("\n".join((*self.packages, LOCK.read_text(encoding="utf-8"))).encode()).hexdigest()
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
        subprocess.run([*pip, "--constraint", str(LOCK), *self.packages], check=True)


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
