"""A local web server for the report of running experiments: rewrites it periodically and reloads the page."""

from __future__ import annotations

import functools
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from foundation.errors import ConfigError
from reports.page import write_report

HOST = "127.0.0.1"


class _Page(SimpleHTTPRequestHandler):
    """Serves files of the output folder; the report's page refreshes itself."""

    every: float

    def do_GET(self) -> None:
        if self.path == "/":
            self.send_response(302)
            self.send_header("Location", "/report/index.html")
            self.end_headers()
            return
        super().do_GET()

    def end_headers(self) -> None:
        if self.path.partition("?")[0].endswith("/report/index.html"):
            self.send_header("Refresh", f"{self.every:g}")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log no requests."""


class Dashboard:
    """Serves the report of an output folder until it is closed.

    Args:
        output_dir: the folder that holds ``runs/``.
        port: the port; 0 takes any free one.
        every: seconds between two reports.

    Raises:
        ConfigError: if the port is taken.
        DataError: if there is no run folder yet.
    """

    def __init__(self, output_dir: Path, port: int, every: float) -> None:
        write_report(output_dir)
        handler = type("Page", (_Page,), {"every": every})
        try:
            self._server = ThreadingHTTPServer((HOST, port), functools.partial(handler, directory=str(output_dir)))
        except OSError as error:
            raise ConfigError(f"port={port} cannot be used: {error.strerror}.\nExpected: a free one.") from error
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._write, args=(output_dir, every), daemon=True)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}/report/index.html"

    def serve(self) -> None:
        """Serve until Ctrl-C, or until another thread calls :meth:`close`."""
        self._writer.start()
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._closed.set()
            self._server.server_close()

    def close(self) -> None:
        self._server.shutdown()

    def _write(self, output_dir: Path, every: float) -> None:
        while not self._closed.wait(every):
            try:
                write_report(output_dir)
            except Exception as error:  # a moved folder, a full disk: the next attempt may succeed
                print(f"The report could not be written: {error}", file=sys.stderr)
