"""The report in a browser: ten questions in at most three actions, accessibility, and texts that stay text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from foundation.run_folder import RunFolder
from reports.dashboard import Dashboard
from reports.page import write_report
from tests.browser import CHROMIUM, Browser
from tests.conftest import skip
from tests.explored_runs import HOSTILE, changed_status, write_study
from tests.run_folders import write_run

pytestmark = pytest.mark.process
AXE = Path(__file__).parent / "vendor" / "axe.min.js"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    if CHROMIUM is None:
        skip("no Chromium to open the page with")
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a study's report."""
    output_dir = tmp_path_factory.mktemp("study")
    write_study(output_dir)
    folder = RunFolder.at(output_dir / "runs" / "finetune-under1")
    assert folder is not None
    with folder.lock():
        return write_report(output_dir).as_uri()


class Reader:
    """Someone who reads the page with a mouse, and counts what it takes.

    Args:
        browser: the browser.
        page: address of the page, which is opened on its first view.
    """

    def __init__(self, browser: Browser, page: str) -> None:
        self.browser, self.actions = browser, 0
        browser.events.clear()
        browser.screen(1440)
        browser.open(page)
        browser.wait("document.documentElement.dataset.ready")

    def click(self, selector: str, text: str = "") -> None:
        """Click the first visible element of a selector that holds a text."""
        self.actions += 1
        found = f"""(() => {{
          const found = [...document.querySelectorAll({selector!r})].find(
            one => one.checkVisibility() && one.textContent.includes({text!r}));
          if (!found) return false;
          found.click();
          return true;
        }})()"""
        assert self.browser.run(found), (selector, text)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has followed its address."""
        self.browser.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def seen(self, selector: str = "main") -> str:
        """The visible text of an element."""
        text: str = self.browser.run(f"document.querySelector({selector!r}).innerText")
        return text

    def table(self, selector: str) -> list[list[str]]:
        """The cells of a table's rows."""
        rows: list[list[str]] = self.browser.run(
            f"[...document.querySelectorAll({selector + ' tbody tr'!r})]"
            ".map(row => [...row.cells].map(cell => cell.innerText.trim()))"
        )
        return rows


@pytest.fixture
def reader(browser: Browser, page: str) -> Iterator[Reader]:
    reader = Reader(browser, page)
    yield reader
    assert reader.actions <= 3
    assert browser.errors == []
    assert all(address.startswith("file:") for address in browser.requests)


def test_the_best_run_by_test_miou(reader: Reader) -> None:
    assert "62.00\nMTL, 10 % (60 images) labelled" in reader.seen(".best").replace("\u00a0", " ")
    reader.click("nav a", "Runs")
    assert "62.00" in reader.table("#all-runs")[0]
    assert "mtlten" in reader.table("#all-runs")[0][0]


def test_the_gain_at_one_percent_with_its_interval(reader: Reader) -> None:
    gains = [text for text in reader.seen("#news").split("\n") if "at 1 % (6 images)" in text.replace("\u00a0", " ")]
    assert len(gains) == 2, "of MTL and of self-training"
    assert all("95 % confidence from" in text.replace("\u00a0", " ") for text in gains)
    assert any(text.startswith("self-training 55.50 mIoU, baseline 45.50") for text in gains)


def test_which_settings_differ_between_two_runs(reader: Reader) -> None:
    reader.click("nav a", "Runs")
    reader.browser.run("document.querySelector('input[aria-label=\"Pick baseline0\"]').click()")
    reader.browser.run("document.querySelector('input[aria-label=\"Pick mtl0\"]').click()")
    reader.actions += 1  # two ticks are one choice
    reader.click("#pick-bar a", "Compare")
    rows = {row[0]: row[1:] for row in reader.table("#differing")}
    assert rows["lr"] == ["0.001", "0.002"] or rows["lr"] == ["0.002", "0.001"]
    assert "seed" not in rows


def test_whether_a_run_overfits(reader: Reader) -> None:
    reader.click(".best a")
    assert "Overfits: the validation loss is lowest in epoch 3 of 6" in reader.seen("#overfitting")
    assert reader.browser.run("document.querySelectorAll('#plot-run-loss path').length") > 2


def test_which_class_lost_most_against_the_baseline(reader: Reader) -> None:
    reader.click("#news a", "Compare")
    assert "lost most in hair (−13.00 points)" in reader.seen("#worst-class")
    first = reader.table("#classes-compared")[0]
    assert (first[0], first[1]) == ("hair", "11 000")


def test_how_the_reconstruction_looked_at_two_epochs(reader: Reader) -> None:
    reader.browser.run(f"location.hash = {urlencode({'view': 'run', 'run': 'pretrain-pre1'})!r}")
    reader.actions += 1
    reader.settle()
    shown = []
    for place in ("0", "2"):
        reader.browser.run(
            f"(() => {{ const slider = document.querySelector('input[aria-label=Epoch]'); slider.value = {place};"
            "slider.dispatchEvent(new Event('input')) })()"
        )
        reader.actions += 1
        shown.append((reader.seen(".slider output"), reader.browser.run("document.querySelector('.epoch img').src")))
    assert [epoch for epoch, _ in shown] == ["epoch 5", "epoch 40"]
    assert shown[0][1] != shown[1][1]


def test_which_runs_failed_and_why(reader: Reader) -> None:
    failed = {row[0]: row[3] for row in reader.table("#failed")}
    assert failed["broken1"] == "val/a.png is broken.\nIt must be a PNG file."
    assert failed["odd1"] == HOSTILE, "as text"
    assert reader.browser.run("document.querySelectorAll('img[src=x]').length") == 0


def test_what_is_running_and_when_it_ends(reader: Reader) -> None:
    ((run, _, epochs, *_, left, ends),) = reader.table("#running")
    assert (run, epochs, left) == ("under1", "3 of 12", "30 min")
    assert ends[:2] == "20"


def test_the_command_that_repeats_a_run(reader: Reader) -> None:
    reader.click(".best a")
    assert reader.seen("#command") == (
        "python train.py experiment=mtl_lapa_1pct scale=demo recipe=tuned seed=1 finetune.epochs=6"
    )


def test_the_same_face_under_five_methods(reader: Reader) -> None:
    reader.click("#efficiency a", "1 %")
    heads = reader.browser.run("[...document.querySelectorAll('#same-faces thead th')].map(head => head.innerText)")
    assert heads[:3] == ["face", "image", "ground truth"]
    assert len(heads) == 3 + 5
    assert all(len(row) == 8 and "none" not in row for row in reader.table("#same-faces"))
    assert reader.browser.run(
        "[...document.querySelectorAll('#same-faces img')].every(one => one.complete && one.naturalWidth)"
    )


def test_columns_filters_and_groups(reader: Reader) -> None:
    where = {
        "view": "runs",
        "column": ["metric test/miou", "about seed"],
        "where": "about label_fraction\tis\t1",
        "by": "about method",
    }
    reader.browser.run(f"location.hash = {urlencode(where, doseq=True)!r}")
    reader.settle()
    rows = {row[1]: row for row in reader.table("#all-runs")}
    assert rows["MTL"][0].strip() == "5", "two seeds, and three runs without a score"
    assert rows["MTL"][2] == "52.50 ± 0.71 (n = 2)"
    assert rows["baseline"][2:] == ["45.50 ± 0.71", "0, 1"]
    assert len(rows) == 5 + 1


def test_a_hostile_run_is_text_in_every_view(reader: Reader) -> None:
    for view in ("runs", "compare", "run"):
        words = {
            "view": view,
            "run": "finetune-odd1",
            "pick": "finetune-odd1",
            "column": f"setting {HOSTILE}",
            "by": f"setting {HOSTILE}",
        }
        reader.browser.run(f"location.hash = {urlencode(words)!r}")
        reader.settle()
        assert HOSTILE in reader.browser.run(f"document.querySelector('#{view}').textContent")
    assert reader.browser.run("document.querySelectorAll('img[src=x]').length") == 0


VIOLATIONS = """axe.run().then(found => found.violations.map(
  one => [one.id, one.nodes.slice(0, 5).map(node => node.html.slice(0, 200))]))"""
VIEWS = {
    "overview": "",
    "runs": "view=runs&pick=finetune-mtl0&by=about+method",
    "compare": "view=compare&pick=finetune-baseline0&pick=finetune-mtl0&curve=train/loss&smooth=0.5",
    "run": "view=run&run=finetune-mtl0",
    "tables": "view=tables",
}


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_every_view_is_accessible(browser: Browser, page: str, width: int, dark: bool) -> None:
    reader = Reader(browser, page)
    browser.screen(width, dark=dark)
    browser.run(AXE.read_text())
    for view, words in VIEWS.items():
        browser.run(f"location.hash = {words!r}")
        reader.settle()
        found = browser.run(VIOLATIONS)
        assert found == [], (view, found)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth"), f"{view} is wider than the screen"
    assert browser.errors == []


def test_the_keyboard_reaches_a_run(browser: Browser, page: str) -> None:
    reader = Reader(browser, page)
    browser.press("Tab", 2)
    browser.press("Enter")
    reader.settle()
    assert "view=runs" in browser.run("location.hash")
    browser.run("document.querySelector('#all-runs input').focus()")
    browser.press(" ")
    browser.press("Tab")
    browser.press("Enter")
    reader.settle()
    assert "view=run&" in browser.run("location.hash")
    assert "pick=" in browser.run("location.hash")


def test_new_data_keep_what_was_picked(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl0", curves=False)
    about = {"epoch": 3, "epochs": 12, "seconds": 600.0, "curves": False}
    run = write_run(tmp_path, "finetune", "under1", state="running", **about)
    folder = RunFolder.at(run)
    assert folder is not None
    dashboard = Dashboard(tmp_path, port=0, every=1)
    thread = threading.Thread(target=dashboard.serve)
    thread.start()
    try:
        with folder.lock():
            reader = Reader(browser, dashboard.address)
            browser.run("location.hash = 'view=runs&pick=finetune-mtl0'")
            reader.settle()
            reader.click("#all-runs th .dt-column-title", "state")
            changed_status(run, epoch=9)
            browser.wait("document.querySelector('#running')?.textContent.includes('9 of 12')")
            assert browser.run("document.querySelectorAll('#all-runs tr.chosen').length") == 1
            assert browser.run("document.querySelector('#all-runs th[aria-sort]').textContent") == "state"
            assert browser.run("document.querySelector('#picked').textContent.trim()") == "1"
            assert browser.errors == []
            assert all(address.startswith(dashboard.address.rpartition("/report")[0]) for address in browser.requests)
    finally:
        dashboard.close()
        thread.join()
