"""The report's page, the pages of runs, figures and panels, on run folders written for the purpose."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from foundation.errors import DataError
from foundation.recorded_runs import read_runs
from reports import figures, panels
from reports.embedded_images import EmbeddedImages, embed
from reports.libraries import libraries
from reports.page import write_report
from tests.run_folders import (
    write_evaluations,
    write_grid_search,
    write_group_panels,
    write_run,
    write_segmenters,
)


def test_each_kind_of_run_has_a_section_on_the_page(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    for write in (write_segmenters, write_grid_search, write_group_panels, write_evaluations):
        write(tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for title in (
        "Occlusion segmentation",
        "Grid search",
        "groups/style",
        "Across data sets",
        "Occlusion segmentation on",
    ):
        assert title in page


def test_figures_cite_their_runs_and_fractions_need_two(output_dir: Path) -> None:
    write_evaluations(output_dir)  # of which there is no figure
    assert {chart.title: {run.id for run in chart.runs} for chart in figures.charts(read_runs(output_dir))} == {
        "Pre-training on lapa (synthetic)": {"pre1"},
        "Fine-tuning on lapa (synthetic), 1 % (6 images) labelled": {"base1", "mtl1"},
    }
    write_run(output_dir, "finetune", "mtl10", label_fraction=0.1, labelled=60, miou=0.7)
    chart = figures.charts(read_runs(output_dir))[-1]
    assert chart.title == "Label efficiency on lapa (synthetic), scale demo, recipe short"
    assert {run.id for run in chart.runs} == {"base1", "mtl1", "mtl10"}
    assert "MTL 70.00 % at 10 %" in chart.alt
    assert figures.COLOURS["mtl"][0] in chart.light
    assert figures.COLOURS["mtl"][0] not in chart.dark


def test_runs_that_are_no_repeats_have_their_own_lines(tmp_path: Path) -> None:
    rows = ((0.01, 0.1, 0, 0.4), (0.01, 0.1, 1, 0.5), (0.01, 0.2, 0, 0.6), (0.1, 0.1, 0, 0.7))
    for place, (fraction, rate, seed, miou) in enumerate(rows):
        identity = {"settings": {"finetune.optimizer.lr": rate}}
        about = {"label_fraction": fraction, "seed": seed, "identity": identity}
        write_run(tmp_path, "finetune", f"mtl{place}", miou=miou, curves=False, **about)
        write_run(tmp_path, "finetune", f"base{place}", miou=0.3, method="baseline", curves=False, **about)
    (chart,) = figures.charts(read_runs(tmp_path))
    named = "MTL (finetune.optimizer.lr={})"
    assert chart.alt.startswith("baseline (finetune.optimizer.lr=0.1) 30.00 % at 1 %")
    for part in (f"{named.format(0.1)} 45.00 % at 1 %", f"{named.format(0.1)} 70.00 % at 10 %"):
        assert part in chart.alt
    assert f"{named.format(0.2)} 60.00 % at 1 %" in chart.alt
    assert f"gain of {named.format(0.1)} +15.00 points at 1 %" in chart.alt
    assert f"gain of {named.format(0.2)} +30.00 points at 1 %" in chart.alt


def test_panels_of_older_runs_are_read(output_dir: Path) -> None:
    def shown() -> object:
        runs = read_runs(output_dir)
        return [panels.of_one_run(run) for run in runs], embed(runs, EmbeddedImages())

    before = shown()
    for file in output_dir.glob("runs/*/panels/*/*.ground_truth.png"):
        file.rename(file.with_name(file.name.replace("ground_truth", "truth")))
    assert shown() == before


def without_libraries(html: str) -> str:
    """The page without the text of its scripts."""
    for script in libraries().scripts:
        html = html.replace(script, "")
    return html


@pytest.mark.slow
def test_page_is_self_contained_escaped_and_the_same_each_time(output_dir: Path) -> None:
    nasty = '"><script>alert(1)</script>${{7*7}}\ud800\x00'
    write_run(output_dir, "finetune", "odd1", experiment=nasty, dataset=nasty, ablation=nasty, method=nasty)
    page = write_report(output_dir, now=1_700_000_000)
    first = page.read_bytes()
    assert page == output_dir / "report" / "index.html"
    assert write_report(output_dir, now=1_700_000_000).read_bytes() == first
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "tables", "figures", "runs"}
    html = first.decode()
    assert len(re.findall("<script", without_libraries(html))) == 1 + 3, "the data, and our own"
    assert "alert(1)</script>" not in html
    assert "&lt;b&gt;boom&lt;/b&gt; &amp; smoke" in html
    assert "status.json cannot be read" in html
    assert "not how well it works on real faces" in html
    written = without_libraries(html)
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|srcset)="([^"]*)"', written))
    assert 'href="runs/finetune-mtl1.html"' in html
    for anchor in re.findall(r'href="#([^"]*)"', written):
        assert f'id="{anchor}"' in html


def test_each_run_has_its_own_page(output_dir: Path) -> None:
    nasty = '"><script>alert(1)</script>${{7*7}}\ud800\x00'
    settings = {"finetune.loss": "ce", "datamodule.crop": None, nasty: True}
    write_run(output_dir, "finetune", "full", identity={"settings": settings}, upstream=["pre1", "gone"], error=nasty)
    folder = write_report(output_dir).parent / "runs"
    assert {page.stem for page in folder.iterdir()} == {path.name for path in (output_dir / "runs").iterdir()}
    html = (folder / "finetune-full.html").read_text()
    assert 'href="pretrain-pre1.html"' in html
    assert "gone</span> (not in this folder)" in html
    assert "<script" not in html
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|srcset)="([^"]*)"', html))
    for scored in ("test/miou", "0.5000", "finetune.loss", "train/loss", "M0.0,2.0 4.1,"):
        assert scored in html
    assert html.count("data:image/png") == 6, "three kinds of two samples"
    (before,) = (page for page in folder.iterdir() if page.stem == "pretrain-pre1")
    assert "finetune-full.html" in before.read_text(), "a run names what was made from it"
    for link in re.findall(r'href="([^"#]*)', html):
        assert (folder / link).exists(), link
    for run in (output_dir / "runs").iterdir():
        if run.name != "finetune-half1":
            shutil.rmtree(run)
    write_report(output_dir)
    assert [page.name for page in folder.iterdir()] == ["finetune-half1.html"]


def test_tables_and_figures_are_written_as_files(output_dir: Path) -> None:
    folder = write_report(output_dir).parent
    with (folder / "tables" / "test_results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"]: row["mIoU"] for row in rows} == {"mtl1": "58.31", "base1": "56.90"}
    figures = list((folder / "figures").iterdir())
    assert all(path.read_text().lstrip().startswith("<?xml") for path in figures if path.suffix == ".svg")
    assert {path.suffix for path in figures} == {".svg", ".png"}
    assert "56.90" in (folder / "tables" / "test_results.tex").read_text()


@pytest.mark.parametrize(
    "status",
    ["", "[]", "{}", '{"state": "done", "stage": "finetune", "metrics": [1], "seed": {}, "label_fraction": "x"}'],
)
def test_any_status_gives_a_page(tmp_path: Path, status: str) -> None:
    folder = tmp_path / "runs" / "finetune-bare"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(status)
    (folder / "metrics.csv").write_bytes(b"epoch,step\n\xff,\x00")
    assert "bare" in write_report(tmp_path).read_text()


def test_without_runs_one_message_gives_place_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No runs to report.*runs.*python train\.py"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()
