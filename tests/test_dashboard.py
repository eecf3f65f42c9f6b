"""The dashboard: what it serves, to whom, and for how long."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundation.errors import ConfigError
from reports.dashboard import MOST_CONNECTIONS, Dashboard, allowed_host
from tests.run_folders import write_run


def loaded(address: str) -> str:
    """Text of a page."""
    with urllib.request.urlopen(address) as response:  # noqa: S310 (our own server)
        return str(response.read().decode())


def test_the_dashboard_shows_new_runs(tmp_path: Path) -> None:
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    dashboard = Dashboard(tmp_path, port=0, every=0.2)
    assert dashboard.address.startswith("http://127.0.0.1:")
    thread = threading.Thread(target=dashboard.serve)
    thread.start()
    try:
        page = loaded(dashboard.address)
        assert '"every":0.2' in page, "it asks for new data itself"
        assert "mtl1" in page
        write_run(tmp_path, "finetune", "new1", curves=False)
        deadline = time.monotonic() + 30
        while "finetune-new1" not in loaded(dashboard.address):
            assert time.monotonic() < deadline, "the page was not written again"
            time.sleep(0.1)
        assert "mtl1" in loaded(dashboard.address.replace("index.html", "runs/finetune-mtl1.html"))
    finally:
        dashboard.close()
        thread.join()
    elsewhere = tmp_path / "elsewhere"  # what closed may still be writing its last page
    write_run(elsewhere, "finetune", "mtl1", curves=False)
    taken = Dashboard(elsewhere, port=0, every=60)
    with pytest.raises(ConfigError, match="cannot be used"):
        Dashboard(elsewhere, port=int(taken.address.split(":")[2].partition("/")[0]), every=60)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard that is served."""
    write_run(tmp_path, "finetune", "mtl1", curves=False)
    served = Dashboard(tmp_path, port=0, every=600, host="Faces.example.org")
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served
    served.close()
    thread.join()


def port_of(dashboard: Dashboard) -> int:
    return int(dashboard.address.split(":")[2].partition("/")[0])


def exchanged(dashboard: Dashboard, request: bytes) -> bytes:
    """Everything that the server sends for the bytes of a request."""
    with socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=20) as connection:
        received = bytearray()
        with contextlib.suppress(OSError):  # it need not read to the end what is no request
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(2**16):
                received += part
        return bytes(received)


def status_line(dashboard: Dashboard, path: str = "/report/index.html", host: str = "Host: localhost\r\n") -> str:
    request = f"GET {path} HTTP/1.1\r\n{host}\r\n".encode("utf-8", "surrogateescape")
    return exchanged(dashboard, request).decode("latin-1").partition("\r\n")[0]


def test_only_this_machine_s_names_and_the_allowed_one_are_served(dashboard: Dashboard) -> None:
    for host in ("localhost", "LOCALHOST:9", f"127.0.0.1:{port_of(dashboard)}", "[::1]:80", "faces.example.org:443"):
        assert status_line(dashboard, host=f"Host: {host}\r\n").endswith("200 OK"), host
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "evil.example#localhost"):
        assert " 403 " in status_line(dashboard, host=f"Host: {host}\r\n"), host
    assert " 403 " in status_line(dashboard, host="")
    assert " 403 " in status_line(dashboard, host="Host: localhost\r\nHost: evil.example\r\n")


def test_only_the_report_s_own_files_are_served_with_their_types(dashboard: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    report = tmp_path / "report"
    for name in ("index.html.bak", "page.htm", "tables/page.html", "runs/deep/page.html", "figures/a.html", "a.svg"):
        (report / name).parent.mkdir(exist_ok=True, parents=True)
        (report / name).write_text("foreign")
    (report / "tables" / "linked.csv").symlink_to(tmp_path / "secret.txt")
    (report / "figures").mkdir(exist_ok=True)
    (report / "figures" / "chart.svg").write_text("<svg/>")
    os.mkfifo(report / "tables" / "waits.csv")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "digests.sqlite").write_text("cache")
    kinds = {
        "index.html": "text/html; charset=utf-8",
        "runs/finetune-mtl1.html": "text/html; charset=utf-8",
        "tables/test_results.csv": "text/csv; charset=utf-8",
        "figures/chart.svg": "image/svg+xml",
    }
    for name, kind in kinds.items():
        with urllib.request.urlopen(dashboard.address.replace("index.html", name)) as response:  # noqa: S310
            assert response.headers["Content-Type"] == kind
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert response.read() == (report / name).read_bytes()
    digest = re.search(r"script-src '(sha256-[^']*)'", (report / "index.html").read_text())
    assert digest is not None
    assert digest[1] in policy, "the page's own script runs"
    refused = (
        *("/report/", "/report", "/runs/", "/runs/finetune-mtl1/status.json", "/runs/finetune-mtl1/config.yaml"),
        *("/report/index.html.bak", "/report/page.htm", "/report/tables/page.html", "/report/runs/deep/page.html"),
        *("/report/figures/a.html", "/report/a.svg", "/report/tables/linked.csv", "/report/tables/waits.csv"),
        *("/cache/digests.sqlite", "/secret.txt", "/report/../secret.txt", "/report/runs/..%2f..%2fsecret.html"),
        *(
            "/report/runs/%00.html",
            f"/report/runs/{'n' * 500}.html",
            "http://x/report/index.html",
        ),
    )
    for path in refused:
        assert " 404 " in status_line(dashboard, path), path
    assert " 302 " in status_line(dashboard, "/")


def test_what_is_no_request_is_no_news_for_the_terminal(
    dashboard: Dashboard, capfd: pytest.CaptureFixture[str]
) -> None:
    junk: tuple[bytes, ...] = (
        b"",
        b"\r\n",
        b"\xff\xfe\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
    )
    junk += (b"GET /\xff\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"X" * 100_000, b"\x16\x03\x01" * 50)
    junk += (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for request in junk:
        sent = exchanged(dashboard, request)
        assert b"<html" not in sent
    with socket.create_connection(("127.0.0.1", port_of(dashboard))) as connection:  # gone before it is served
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"GET /report/index.html HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status_line(dashboard).endswith("200 OK")
    assert capfd.readouterr() == ("", "")


def test_connections_are_bounded_in_number_and_time(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.dashboard.LONGEST", 0.5)
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", port_of(dashboard)), timeout=20) for _ in range(100)]
    try:
        deadline = time.monotonic() + 60
        while threading.active_count() < before + MOST_CONNECTIONS:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert threading.active_count() <= before + MOST_CONNECTIONS
        for connection in idle[:MOST_CONNECTIONS]:  # a header that never ends keeps none of them open
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\nA: ")
        while threading.active_count() > before:
            assert time.monotonic() < deadline
            for connection in idle[:MOST_CONNECTIONS]:  # none of them is ever idle
                with contextlib.suppress(OSError):
                    connection.sendall(b"a")
            time.sleep(0.05)
        assert status_line(dashboard).endswith("200 OK")
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize("name", ["evil name", "a:80", "http://a", "", 7, ["a"], "-a"])
def test_an_allowed_host_is_a_name(name: object) -> None:
    with pytest.raises(ConfigError, match="allowed_host="):
        allowed_host(name)
    assert (allowed_host(None), allowed_host("faces.example.org")) == (None, "faces.example.org")
