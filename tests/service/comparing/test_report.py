"""A comparison's rows and JSON."""

import json
import math
from dataclasses import replace

from service.comparing.report import COLUMNS, halves_line, narrow, skipped_line, slice_table, table
from tests.service.comparing.reports import entry, failed, report, whole


def test_the_rows_are_best_first_and_the_failed_last_with_their_reason() -> None:
    rows = table(report(entry("base", 0.7), failed("broken", "no memory"), entry("better", 0.8, gain=0.1)))
    assert [row[0] for row in rows] == ["better", "base *", "broken"]
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert rows[0][1:4] == ("0.8000 ± 0.0004", "0.7900 to 0.8100", "+0.1000 (+0.0980 to +0.1020)")
    assert rows[0][7:] == ("1,128,531", "2.30", "12.5", "0.50", "1.50")
    assert rows[1][3] == "the baseline"
    assert rows[2][1] == "failed: no memory"
    assert narrow(rows[2])[1] == "failed"
    assert narrow(rows[0]) == rows[0]


def test_a_contestant_that_waits_for_its_turn_is_a_row_that_says_so() -> None:
    waiting = replace(failed("later", ""), state="waiting")
    assert table(report(entry("base", 0.7), waiting, finished=False))[1][1] == "not run yet"


def test_a_contestant_of_which_one_seed_failed_shows_what_the_others_reached() -> None:
    half = replace(entry("half", 0.75, gain=0.05), state="failed", why="seed 1: killed")
    row = table(report(entry("base", 0.7), half))[0]
    assert row[0] == "half"
    assert row[1].startswith("0.7500")
    assert row[2] == "failed: seed 1: killed"


def test_slices_that_were_judged_have_a_column_and_the_others_a_reason() -> None:
    columns, rows = slice_table(whole())
    assert columns == ("contestant", "new_users (700)")
    assert rows[-1][0] == "lr"
    assert skipped_line(whole()) == "Not judged: new_apps (34 rows, 2 positive); 500 rows are needed."


def test_each_halfs_share_is_a_number() -> None:
    halves = whole().halves
    assert halves is not None
    assert "the wide half adds +0.0010 (+0.0005 to +0.0015) AUC to the deep one alone" in halves_line(halves)


def test_json_has_every_figure_and_null_for_what_is_not_finite() -> None:
    broken = replace(entry("base", 0.7), curves=())
    broken.standing["auc"] = replace(broken.standing["auc"], value=math.nan)
    told = json.loads(report(broken, entry("other", 0.8, gain=0.1)).to_json())
    assert told["entries"][0]["standing"]["auc"]["value"] is None
    assert told["entries"][1]["standing"]["auc"]["gain"] == {"low": 0.098, "mean": 0.1, "high": 0.10200000000000001}
    assert told["entries"][1]["curves"][0]["points"][0]["epoch"] == 1
