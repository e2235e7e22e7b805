"""Run the benchmarks that need no data but their own: `make bench`. The Frappe ones are named in docs/benchmarks.md."""

import subprocess
import sys

BENCHES = (
    "bench.synthetic",
    "bench.ingest",
    "bench.loop",
    "bench.candidates",
    "bench.steps",
    "bench.serving",
    "bench.overload",
    "bench.memory",
    "bench.catalogue",
    "bench.swap",
    "bench.train",
    "bench.train_memory",
    "bench.train_distributed",
)


def main() -> int:
    """Run one after the other, since two at a time would measure each other; the first failure ends it."""
    for name in BENCHES:
        print(f"== {name}", flush=True)
        if code := subprocess.run([sys.executable, "-m", name], check=False).returncode:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
