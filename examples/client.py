"""A client in the standard library only: store two users and ask for a list.

    python examples/client.py http://127.0.0.1:8000 [ADMIN_KEY]

With the admin key it first stores a user; without one it ranks for a user that the store may not know.
"""

import json
import sys
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def call(url: str, body: dict[str, Any], *, method: str = "POST", key: str | None = None) -> dict[str, Any]:
    """Send `body` as JSON and read JSON back; a refusal comes back as a problem with `title`, `detail` and `status`."""
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    request = Request(url, json.dumps(body).encode(), headers, method=method)
    try:
        with urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))
    except HTTPError as refusal:
        return dict(json.load(refusal))


def main(server: str, key: str | None) -> None:
    """Rank for one user in one moment and print the list."""
    if key:
        user = {"id": "visitor", "features": {"country": "PT", "age_group": "25-34"}, "installed": []}
        print("stored:", call(f"{server}/users", {"users": [user]}, method="PUT", key=key))
    question = {"user": {"id": "visitor"}, "context": {"daytime": "evening", "weekday": "sat"}, "k": 10}
    answer = call(f"{server}/rank", question)
    if "items" not in answer:
        sys.exit(f"{answer['title']}: {answer.get('detail', '')}")
    print(f"version {answer['version']}, {answer['took_ms']:.1f} ms")
    for item in answer["items"]:
        print(f"{item['rank']:3}  {item['score']:.4f}  {item['app_id']}")
    for warning in answer["warnings"]:
        print("warning:", warning)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), sys.argv[2] if len(sys.argv) > 2 else None)
