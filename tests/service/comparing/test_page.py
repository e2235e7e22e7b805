"""The page of a comparison as text; how it looks in a browser is tests/e2e's."""

from html.parser import HTMLParser

from service.comparing.page import page
from tests.service.comparing.reports import entry, failed, report, whole

VOID = {"meta"}


class Reader(HTMLParser):
    """Which elements there are, which are left open, and the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def test_a_page_is_whole_and_asks_nothing_of_anybody() -> None:
    read = Reader(page(whole()))
    assert read.open == []
    assert {name for name, _ in read.attributes} & {"src", "href", "onload", "onclick"} == set()
    assert "script" not in read.texts
    assert "url(" not in page(whole())
    assert "http" not in page(whole())


def test_what_a_contestant_is_called_is_text_and_no_markup() -> None:
    text = page(whole())
    assert "<log>" not in text
    assert "<at>" not in text
    assert "<b>" not in text


def test_every_contestant_stands_in_the_tables_and_a_failed_one_says_why() -> None:
    told = Reader(page(whole())).texts
    assert {"wide_deep *", "deepfm", "broken"} <= set(told["th"])
    assert "broken failed: seed 0: the loss became nan <at> epoch 1" in told["p"]
    assert {"0.7200 ± 0.0004", "1,128,531", "2.30", "0.50", "1.50", "failed"} <= set(told["td"])


def test_the_plots_are_auc_gains_curves_and_time_each_with_words_for_who_cannot_see() -> None:
    told = Reader(page(whole())).texts
    assert [one for one in told["h2"] if "AUC" in one or "curves" in one] == [
        "AUC",
        "AUC gained over wide_deep",
        "Learning curves",
        "AUC against the time of a request",
    ]
    assert len(told["desc"]) == 5
    assert len(told["caption"]) == 4


def test_a_comparison_under_way_says_so_and_draws_what_it_has() -> None:
    text = page(report(entry("base", 0.7), failed("other", "x"), finished=False))
    assert "Not finished." in text
    assert "Learning curves" in text


def test_a_comparison_in_which_all_failed_is_a_page_too() -> None:
    assert "<svg" not in page(report(failed("base", "no memory")))
