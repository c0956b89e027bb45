"""The page in a real browser with the network blocked, and what it must never contain."""

import dataclasses
import html
import json
import re

import polars as pl
import pytest
from support.records_factory import Truth, make_record, make_study
from support.tolerances import SIX_DIGITS

from experiments.analysis.summary import summarise
from experiments.report.figure import Figure, nothing
from experiments.report.figures import FIGURES, drawn
from experiments.report.methods import FITTED_CURVE, METHODS
from experiments.report.page import figure_section, page
from experiments.report.trials import page_data, trials_table
from experiments.report.write import NOTE, keep_note, write_csv, write_report_of
from experiments.spec.space import Real

SMALL_PAGE = 6_000_000
LARGE_PAGE = 10_000_000
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def document(record):
    summary = summarise(record)
    return page(summary, drawn(summary))


def with_question(record, text):
    study = {**record.study, "study": {**record.study["study"], "question": text}}
    return dataclasses.replace(record, study=study)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A written report whose question tries to break out of the page."""
    record = make_record(make_study((1, 4, 16, 64, 256, 1024), trials=8))
    folder = tmp_path_factory.mktemp("study")
    return write_report_of(with_question(record, HOSTILE), folder, pictures=())


def open_page(browser, path, **options):
    """(tab, requests, errors) of a page offline; all but the file itself is refused and logged."""
    context = browser.new_context(**options)
    context.set_offline(True)
    requests, errors = [], []

    def note(said):
        if said.type in ("error", "warning"):
            errors.append(said.text)

    def answer_request(route):
        requests.append(route.request.url)
        own = route.request.url == path.as_uri()
        route.continue_() if own else route.abort()

    context.route("**/*", answer_request)
    tab = context.new_page()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", note)
    tab.on("dialog", lambda dialog: errors.append("a dialog opened"))
    tab.goto(path.as_uri())
    tab.wait_for_selector("body[data-drawn]", timeout=60_000)
    return tab, requests, errors


@pytest.fixture(scope="module")
def drawn_once(browser, report):
    """The report, opened and drawn once for the tests that leave it as it was."""
    tab, requests, errors = open_page(browser, report)
    yield tab, requests, errors
    tab.context.close()


@pytest.fixture
def shared(drawn_once):
    """The tab of `drawn_once`, nothing selected, filtered, printed or dimmed before or after."""
    tab, requests, errors = drawn_once
    yield tab, requests, errors
    tab.emulate_media(media="screen")
    tab.keyboard.press("Escape")
    tab.mouse.move(0, 0)


@pytest.fixture
def opened(browser, report):
    """Opens the report, or another page, in a tab of its own."""
    contexts = []

    def open_own(path=report, **options):
        found = open_page(browser, path, **options)
        contexts.append(found[0].context)
        return found

    yield open_own
    for context in contexts:
        context.close()


def test_it_opens_offline_with_every_chart_drawn_and_asks_for_nothing_else(shared, report):
    tab, requests, errors = shared
    assert requests == [report.as_uri()] and errors == []
    assert tab.locator(".chart svg").count() == len(FIGURES)
    drawn = tab.locator(".chart svg .mark-symbol.role-mark path").count()
    assert drawn > 6 * 8  # at least one point a trial


def test_findings_show_how_grave_they_are_the_gravest_first():
    space = {"learning_rate": Real(0.3, 1.0, "log"), "momentum": Real(0.0, 0.9)}
    record = make_record(make_study((1, 4, 16, 64), trials=8, space=space))
    summary = summarise(record)
    shown = re.findall(
        r'<li><span class="severity (\w+)">(\w+)</span> (.*?)</li>', page(summary, [])
    )
    assert {kind for kind, _, _ in shown} >= {"high", "low"}
    assert [kind for kind, _, _ in shown] == [word for _, word, _ in shown]
    order = [("high", "medium", "low").index(kind) for kind, _, _ in shown]
    assert order == sorted(order)
    sentences = {html.unescape(text) for _, _, text in shown}
    assert sentences == {found.sentence for found in summary.verdict.findings}


def test_a_point_selects_its_trial_in_the_charts_the_table_and_the_address(shared, report):
    tab, _, errors = shared
    point = tab.locator("#chart-axis_plots .mark-symbol.role-mark path").nth(3)
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    detail = tab.locator("#selected-trial")
    detail.wait_for(timeout=5_000)
    size, seed, index = tab.url.partition("#trial=")[2].split("/")
    command = f"batchscale evaluate {report.parent.parent} --trial {size}/{index} --seed {seed}"
    assert detail.locator("code").inner_text() == command
    ringed = "#chart-{} .mark-symbol.role-mark path[stroke-width='2.5']"
    assert tab.locator(ringed.format("axis_plots")).count() == 2  # learning rate and momentum
    assert tab.locator(ringed.format("search")).count() == 1
    tab.keyboard.press("Escape")
    detail.wait_for(state="hidden", timeout=5_000)
    assert "#" not in tab.url and tab.locator(ringed.format("search")).count() == 0
    assert errors == []


def test_the_address_selects_a_trial_and_its_curve_is_drawn(opened, report):
    tab, _, errors = opened()
    lines = tab.locator("#chart-validation_curves .mark-line.role-mark path[stroke-width='3']")
    complete = tab.locator("#table-trials tr", has_text="COMPLETE").first.get_attribute("data-key")
    assert lines.count() == 0
    tab.goto(f"{report.as_uri()}#trial={complete}")
    lines.first.wait_for(state="attached", timeout=5_000)
    assert lines.count() == 2  # against steps and against examples
    tab.goto(f"{report.as_uri()}#trial=<b>/0/1")
    tab.locator("#selected-trial").wait_for(state="hidden", timeout=5_000)
    assert errors == []


def test_the_table_sorts_filters_and_is_downloaded(opened, report):
    tab, requests, errors = opened()
    trials = pl.read_csv(report.parent / "data" / "trials.csv")
    count = tab.locator("#trials-count")
    assert count.inner_text() == f"{len(trials)} of {len(trials)} trials"
    tab.locator("select[data-filter=batch_size]").select_option("64")
    tab.locator("select[data-filter=status]").select_option("COMPLETE")
    kept = trials.filter(batch_size=64, status="COMPLETE").sort("learning_rate", descending=True)
    assert count.inner_text() == f"{len(kept)} of {len(trials)} trials"
    head = tab.locator("#table-trials th[data-name=learning_rate]")
    head.locator("button").press("Enter")  # the keyboard's way
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    lines = tab.locator("#table-trials tbody tr")
    keys = lines.evaluate_all("rows => rows.map((row) => row.dataset.key)")
    assert keys == [f"64/0/{trial}" for trial in kept["trial"]]
    lines.first.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.url.endswith(f"#trial={keys[1]}")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download these as CSV").click()
    found = pl.read_csv(download.value.path())
    assert found["trial"].to_list() == kept["trial"].to_list() and len(requests) == 1
    assert found["learning_rate"].to_list() == pytest.approx(
        kept["learning_rate"].to_list(), rel=SIX_DIGITS
    )
    assert errors == []


def test_print_leaves_out_what_only_a_screen_can_use(shared):
    tab, _, _ = shared
    tab.emulate_media(media="print")
    hidden = tab.locator(".files, .method, #section-trials")
    assert not any(hidden.nth(i).is_visible() for i in range(hidden.count()))
    assert tab.locator("#chart-steps_to_result svg").is_visible()


def test_hovering_a_point_shows_the_trials_hyperparameters(shared):
    tab, _, _ = shared
    for chart in ("steps_to_result", "search"):
        point = tab.locator(f"#chart-{chart} .mark-symbol.role-mark path").last
        point.scroll_into_view_if_needed()
        box = point.bounding_box()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        tooltip = tab.locator("#vg-tooltip-element.visible")
        tooltip.wait_for(timeout=5_000)
        shown = tooltip.inner_text()
        assert "learning rate" in shown and "momentum" in shown and "trial" in shown
        assert "1,024" in shown and "e+" not in shown  # a batch size is written in full
        tab.mouse.move(0, 0)


def test_clicking_a_batch_size_in_the_legend_dims_the_others(opened):
    tab, _, _ = opened()
    chart = tab.locator("#chart-validation_curves")
    chart.scroll_into_view_if_needed()
    chart.locator(".role-legend-symbol path").first.click()
    lines = chart.locator(".mark-line.role-mark path")
    opacities = {lines.nth(i).get_attribute("stroke-opacity") or
                 lines.nth(i).get_attribute("opacity") for i in range(lines.count())}  # fmt: skip
    assert opacities == {"0.06", "0.95"}


def test_a_hostile_question_is_shown_as_text(shared):
    tab, _, errors = shared
    assert tab.title() == "synthetic: a batch-size study"
    assert tab.locator("h1").inner_text() == HOSTILE
    assert tab.locator("h1 *").count() == 0 and errors == []


def test_it_follows_the_screens_colours(opened):
    tab, _, errors = opened(color_scheme="dark")
    assert tab.locator("body").get_attribute("data-drawn") == "dark"
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    axis = tab.locator(".chart svg .role-axis-label text").first.get_attribute("fill")
    assert background == "rgb(20, 24, 30)" and axis == "#9aa2b0"
    tab.emulate_media(color_scheme="light")
    tab.wait_for_selector("body[data-drawn=light]")
    assert errors == []


def test_colours_that_change_while_figures_are_drawn_change_all_of_them(browser, report):
    """The later drawing takes over from the one that is not done."""
    context = browser.new_context(color_scheme="light")
    tab = context.new_page()
    tab.goto(report.as_uri())
    tab.wait_for_selector(".chart svg")
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_selector("body[data-drawn=dark]", timeout=60_000)
    fills = tab.locator(".chart svg .role-axis-label text").evaluate_all(
        "texts => [...new Set(texts.map(text => text.getAttribute('fill')))]"
    )
    assert fills == ["#9aa2b0"]
    context.close()


def test_a_phone_scrolls_charts_but_never_the_page_sideways(opened):
    tab, _, _ = opened(viewport={"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    ("study", "truth"),
    [
        ({"goal": 0.001}, Truth()),
        ({}, Truth(diverges_above=0.0)),
        ({"batch_sizes": (8,)}, Truth()),
        ({"seeds": (0, 1), "goal": 0.05}, Truth()),
    ],
)
def test_studies_that_went_wrong_are_drawn_without_a_warning(opened, tmp_path, study, truth):
    path = tmp_path / "index.html"
    path.write_text(document(make_record(make_study(**{"trials": 2, **study}), truth)))
    tab, requests, errors = opened(path)
    assert requests == [path.as_uri()] and errors == []
    assert tab.locator(".chart svg").count() == len(FIGURES)


def test_a_broad_study_stays_a_small_page():
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
    text = document(make_record(make_study(sizes, trials=60, goal=0.04)))
    assert len(text.encode()) < SMALL_PAGE


def test_five_thousand_trials_are_a_page_of_less_than_ten_megabytes():
    """How soon such a page opens is measured by benchmarks/page_opening.py."""
    record = make_record(make_study((4, 16, 64, 256), trials=320, seeds=(0, 1), goal=0.04))
    assert len(record.trials) >= 5_000
    assert len(document(record).encode()) < LARGE_PAGE


def test_every_figure_says_how_it_is_computed():
    assert {draw.__name__ for draw in FIGURES} - {"search_scatter"} <= set(METHODS)
    text = document(make_record(make_study((4, 64), trials=3)))
    assert text.count("How is this computed?") == len(FIGURES)


def test_what_is_fitted_is_said_of_one_study_alone():
    text = document(make_record(make_study((4, 64), trials=3)))
    steps = figure_section(Figure("steps_to_result", "", "", nothing(""), pl.DataFrame()))
    assert html.escape(FITTED_CURVE) in text
    assert "strictly past the goal" in steps and "is fitted" not in steps


def test_the_curve_of_a_selected_trial_has_what_the_panels_are_drawn_against():
    record = make_record(make_study((4,), trials=3))
    plain = page_data(summarise(record), trials_table(summarise(record)), "s")
    counted = dataclasses.replace(
        record,
        evaluations=record.evaluations.with_columns(function_evaluations=2 * pl.col("step")),
    )
    found = page_data(summarise(counted), trials_table(summarise(counted)), "s")
    assert plain["fields"] == ["step", "value"]
    assert found["fields"] == ["step", "value", "function_evaluations"]
    for steps, _, evaluations in found["curves"].values():
        assert evaluations == [2 * step for step in steps]


def test_a_note_is_kept_and_shown_as_text(tmp_path, capsys):
    record = make_record(make_study((4, 64), trials=2))
    note = tmp_path / "mine.md"
    note.write_text(f"# 5 % is enough\n{HOSTILE}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="--note is shown in the report of a study"):
        keep_note(note, tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(record.study), encoding="utf-8")
    with pytest.raises(ValueError, match="--note must be a text file in UTF-8"):
        keep_note(tmp_path / "absent.md", tmp_path)
    keep_note(note, tmp_path)
    text = page(summarise(record), [], note=(tmp_path / NOTE).read_text(encoding="utf-8"))
    assert HOSTILE not in text and html.escape(HOSTILE) in text


def test_a_page_is_read_again_only_while_it_is_watched():
    summary = summarise(make_record(make_study((4, 64), trials=2)))
    again = '<meta http-equiv="refresh" content="10">'
    assert again in page(summary, [], refresh=10) and again not in page(summary, [])


def test_no_text_in_a_csv_file_is_a_formula(tmp_path):
    table = pl.DataFrame({"message": ["=1+1", "@x", "fine", None], "rate": [-1.0, 2.0, 3.0, 4.0]})
    write_csv(table, tmp_path / "t.csv")
    assert pl.read_csv(tmp_path / "t.csv")["message"].to_list() == ["'=1+1", "'@x", "fine", None]
    assert pl.read_csv(tmp_path / "t.csv")["rate"].to_list() == [-1.0, 2.0, 3.0, 4.0]


def test_no_attribute_points_outside():
    text = document(make_record(make_study((4, 64), trials=3)))
    shell = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # libraries name namespaces
    targets = re.findall(r"(?:src|href)=\"([^\"]*)\"", shell)
    assert targets and all(re.match(r"(figures|data)/\w+\.(png|svg|pdf|csv)$", t) for t in targets)
    assert "http" not in re.sub(r'"\$schema":"[^"]*"|http-equiv', "", shell)


@pytest.mark.parametrize("goal", [0.1, 0.001])
def test_specifications_are_json_without_numbers_that_json_lacks(goal):
    summary = summarise(make_record(make_study((4, 64), trials=3, goal=goal), Truth()))
    for draw in FIGURES:
        assert json.dumps(draw(summary).specification(), allow_nan=False)  # NaN would raise


def test_the_answer_comes_first_and_the_facts_of_the_machine_last():
    text = document(make_record(make_study((4, 64, 512), trials=3)))
    order = ['class="answer"', 'id="chart-steps_to_result"', "What to make of it",
             'id="chart-definitions"', 'id="chart-best_of_trials"', 'class="facts"']  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "<details><summary>All facts</summary>" in text


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ({"trials": 6}, "one search cannot say how much earlier another might be"),
        ({"trials": 6, "seeds": range(6)}, "covers the median answer of such a search with 96.9%"),
        ({"trials": 6, "sampler": "tpe"}, "none for one search of this sampler"),
    ],
)
def test_the_page_says_what_its_bars_are_and_what_they_rest_on(study, words):
    text = document(make_record(make_study((4, 64, 512), **study)))
    assert words in text and "for this split of the data and this plan" in text
    assert "ootstrap" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
