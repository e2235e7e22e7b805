"""LitServe with torch, a packaged server: `python -m bench.peers.litserve_torch PORT`."""

import sys

import litserve as ls
import torch

from bench.peers.messages import Answer, Body
from bench.peers.network import TorchRanker
from bench.peers.work import Work, precision

WORKERS = 2


class RankAPI(ls.LitAPI):  # type: ignore[misc]  # litserve is installed where the peer runs, not where it is checked
    """Ranks in WORKERS processes behind LitServe's own HTTP server."""

    def setup(self, device: str) -> None:
        """Load everything, once a worker."""
        torch.set_num_threads(1)
        self._ranker = TorchRanker(Work.from_environment(), precision())

    def decode_request(self, request: Body) -> Body:
        """The body, validated by the server."""
        return request

    def predict(self, body: Body) -> Answer:
        """Rank one request."""
        return self._ranker.rank(body)

    def encode_response(self, output: Answer) -> Answer:
        """The answer, encoded by the server."""
        return output


def main() -> None:
    """Serve until ended."""
    api = RankAPI(api_path="/rank")
    server = ls.LitServer(api, accelerator="cpu", devices=1, workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
