"""How soon the page of 5,000 trials opens in Chromium, and how large it is.

    python -m benchmarks.page_opening            # needs a Chromium that Playwright can start

The study is a made workload in the layout of the archive of Shallue et al. (2019): 13 batch sizes,
5,100 trials, two million measurements. Its page is opened several times, in fresh contexts without
a network, and says itself when it was loaded, when the first figure stood and when all did. Bars:
open in 3 s, below 10 MB.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.batch_science import GOAL, SLICE
from benchmarks.machine import write_results
from benchmarks.published_archive import MEASUREMENTS, SHAPE, TRIALS, generate
from experiments.records.exchange.batch_science import ImportRequest, import_archive
from experiments.records.store import read
from experiments.report.write import write_report_of

WANTED = 5_100
_WATCH = """
  window.opened = {};
  const look = () => {
    const seen = (name, what) => {
      if (document.querySelector(what)) opened[name] ??= performance.now();
    };
    seen("first", ".chart svg");
    seen("table", "#table-trials tbody tr");
    if (document.body?.dataset.drawn) { opened.all = performance.now(); watcher.disconnect(); }
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document, {childList: true, subtree: true, attributes: true});
  addEventListener("load", () => { opened.load = performance.now(); });
"""
"""Milliseconds since the page was asked for, by the browser's own clock."""


def made(folder: Path) -> Path:
    """The report of a study of `WANTED` trials."""
    share = len(SHAPE[SLICE]) / sum(map(len, SHAPE.values()))
    generate(folder / "archive", WANTED / (TRIALS * share), {SLICE: SHAPE[SLICE]})
    (record,) = import_archive(folder / "archive", folder / "records", ImportRequest({"": GOAL}))
    shutil.rmtree(folder / "archive")
    return write_report_of(read(record), record, pictures=())


def opened(page: Path, times: int) -> list[dict[str, float]]:
    """Seconds to the load event, the first figure, the table of trials and the last figure."""
    from playwright.sync_api import sync_playwright

    from tests.support.machine import browser_program

    found = []
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=browser_program(), args=options)
        for _ in range(times):
            context = browser.new_context()
            context.set_offline(True)
            context.add_init_script(_WATCH)
            tab = context.new_page()
            tab.goto(page.as_uri())
            tab.wait_for_selector("body[data-drawn]", timeout=120_000)
            seen: dict[str, float] = tab.evaluate("window.opened")
            found.append({name: round(at / 1000, 3) for name, at in sorted(seen.items())})
            context.close()
        browser.close()
    return found


def measured(times: int) -> dict[str, Any]:
    """All results."""
    with tempfile.TemporaryDirectory() as folder:
        page = made(Path(folder))
        held = read(page.parent.parent)
        each = opened(page, times)
        names = {"load": "loaded", "first": "first figure", "table": "table", "all": "all figures"}
        return {
            "trials": len(held.trials),
            "measurements": round(MEASUREMENTS * len(held.trials) / TRIALS),
            "page_MB": round(page.stat().st_size / 1e6, 2),
            "seconds_median": {
                names[name]: statistics.median(one[name] for one in each) for name in names
            },
            "openings": each,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7, help="openings, one after the other")
    results = measured(parser.parse_args().times)
    print(results)
    print(write_results("page_opening", results))


if __name__ == "__main__":
    main()
