"""Work of the paper's size, to be timed."""

import numpy as np

from model.data import paper_size
from model.schema import Kind, Source


def test_it_has_the_papers_dimensions() -> None:
    schema = paper_size.schema()
    request, app = (Source.USER, Source.CONTEXT), (Source.APP,)
    assert [len(schema.of(*side, kind=Kind.CATEGORICAL)) for side in (request, app)] == [24, 12]
    assert [len(schema.of(*side, kind=Kind.CONTINUOUS)) for side in (request, app)] == [24, 24]
    assert len({cross.fields for cross in schema.crosses}) == 60
    net = paper_size.scorer(seed=0).net
    assert {parameter.shape for name, parameter in net.named_parameters()} >= {(512, 1024), (256, 512)}


def test_it_scores_and_tells_apps_apart_and_is_the_same_for_a_seed() -> None:
    scores = []
    for _ in range(2):
        scorer = paper_size.scorer(seed=3)
        table = scorer.table(paper_size.apps(20, seed=1))
        scores.append([scorer.score(query, table, np.arange(20)) for query in paper_size.queries(2, seed=2)])
    assert np.array_equal(scores[0], scores[1])
    assert np.ptp(scores[0][0]) > 0.1
    assert not np.allclose(scores[0][0], scores[0][1])
