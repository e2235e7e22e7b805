"""A client in the standard library only: store a user, ask for their list, and say what they installed.

    python examples/client.py http://127.0.0.1:8000 [KEY]

The key is needed only where the server has APPSHELF_RANK_KEY and APPSHELF_EVENTS_KEY, here one and the same.
"""

import json
import sys
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4


class Problem(Exception):
    """The server refused a call; `members` is its application/problem+json."""

    def __init__(self, members: dict[str, Any]) -> None:
        super().__init__(f"{members['status']} {members['title']}: {members['detail']}")
        self.members = members


class Appshelf:
    """A server at `url`."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def call(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send `body` as JSON and read JSON back. Raises Problem."""
        request = Request(self._url + path, json.dumps(body).encode(), self._headers, method=method)
        try:
            with urlopen(request, timeout=10) as answer:
                return dict(json.load(answer))
        except HTTPError as refusal:
            raise Problem(json.load(refusal)) from refusal


def main(shelf: Appshelf) -> None:
    """Store a visitor, print what to show them this evening, and pretend that they install the first app."""
    visitor = {"id": "visitor", "features": {"country": "PT"}, "installed": []}
    shelf.call("PUT", "/users", {"users": [visitor]})
    answer = shelf.call("POST", "/rank", {"user": {"id": "visitor"}, "context": {"daytime": "evening"}, "k": 10})
    print(f"version {answer['version']}, {answer['took_ms']:.1f} ms")
    for item in answer["items"]:
        print(f"{item['rank']:3}  {item['score']:.4f}  {item['app_id']}")
    for warning in answer["warnings"]:
        print("warning:", warning)
    best = answer["items"][0]["app_id"]
    install = {"id": uuid4().hex, "kind": "install", "request_id": answer["request_id"], "app_id": best}
    told = shelf.call("POST", "/events", {"events": [install]})
    print(f"install of {best}: {told['results'][0]['status']}")


if __name__ == "__main__":
    try:
        main(Appshelf(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None))
    except Problem as problem:
        sys.exit(str(problem))
