"""The dashboard: what it serves, to whom, and for how long."""

from __future__ import annotations

import threading
import time
import urllib.request
from pathlib import Path

import pytest

from foundation.errors import ConfigError
from reports.dashboard import Dashboard
from tests.run_folders import write_run


def loaded(address: str) -> tuple[str | None, str]:
    """Refresh header and text of a page."""
    with urllib.request.urlopen(address) as response:  # noqa: S310 (our own server)
        return response.headers["Refresh"], response.read().decode()


def test_the_dashboard_shows_new_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    dashboard = Dashboard(tmp_path, port=0, every=0.2)
    assert dashboard.address.startswith("http://127.0.0.1:")
    thread = threading.Thread(target=dashboard.serve)
    thread.start()
    try:
        refresh, page = loaded(dashboard.address)
        assert refresh == "0.2"
        assert "mtl1" in page
        write_run(tmp_path, "finetune", "new1", curves=False)
        deadline = time.monotonic() + 30
        while "finetune-new1" not in loaded(dashboard.address)[1]:
            assert time.monotonic() < deadline, "the page was not written again"
            time.sleep(0.1)
        assert loaded(dashboard.address.replace("index.html", "runs/finetune-mtl1.html"))[0] is None
    finally:
        dashboard.close()
        thread.join()
    elsewhere = tmp_path / "elsewhere"  # what closed may still be writing its last page
    write_run(elsewhere, "finetune", "mtl1", curves=False)
    taken = Dashboard(elsewhere, port=0, every=60)
    with pytest.raises(ConfigError, match="cannot be used"):
        Dashboard(elsewhere, port=int(taken.address.split(":")[2].partition("/")[0]), every=60)
