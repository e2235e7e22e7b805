"""A judge that never comes to an end."""

import time
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    while True:
        time.sleep(60)
