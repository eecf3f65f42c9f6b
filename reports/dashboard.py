"""A local web server for the report of running experiments: rewrites it periodically; the page takes the new data.

It serves this machine's browsers alone, and the report's own files alone. A page of another site may send requests to
it: through a name that leads to this machine (DNS rebinding), so the Host header is checked; it may not embed it. What
runs have written is never served as it is.
"""

from __future__ import annotations

import functools
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from foundation.errors import ConfigError
from foundation.interruption import check
from foundation.reading import MEBIBYTE, UnreadableError, read_bytes
from foundation.shown_text import printable
from reports.libraries import libraries
from reports.page import write_report

HOST = "127.0.0.1"
HOST_NAMES = ("localhost", HOST, "[::1]")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
"""A name that may be in a Host header."""
INDEX = "/report/index.html"
SERVED = (
    (re.compile(r"index\.html"), "text/html; charset=utf-8"),
    (re.compile(r"runs/[^/]+\.html"), "text/html; charset=utf-8"),
    (re.compile(r"tables/[^/]+\.csv"), "text/csv; charset=utf-8"),
    (re.compile(r"tables/[^/]+\.tex"), "text/plain; charset=utf-8"),
    (re.compile(r"figures/[^/]+\.svg"), "image/svg+xml"),
    (re.compile(r"figures/[^/]+\.png"), "image/png"),
)
"""Files of the report and their content types; no other file is served."""
LARGEST = 64 * MEBIBYTE
MOST_CONNECTIONS = 32
IDLE, LONGEST = 10.0, 30.0
"""Seconds after which a connection is closed: without a byte, and in all."""


@functools.cache
def _headers() -> dict[str, str]:
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            f"default-src 'none'; script-src {libraries().digests}; img-src data:; style-src 'unsafe-inline'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


class _Page(BaseHTTPRequestHandler):
    """Serves files of the report; its page asks for newer data itself."""

    server: _Server
    server_version = "report"
    sys_version = ""
    timeout = IDLE
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or _host_name(hosts[0]) not in self.server.host_names:
            self.send_error(403, "this name is not allowed; report.py takes one more as allowed_host=<name>")
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self.send_response(302)
            self.send_header("Location", INDEX)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        found = self.server.content(path)
        if found is None:
            self.send_error(404, "only the report is served; the run folders are on disk")
            return
        content, kind = found
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815 (the name that http.server looks for)

    def end_headers(self) -> None:
        for name, value in _headers().items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Log no requests."""


class _Server(ThreadingHTTPServer):
    """A server with a bound on its connections, and on the time of each.

    Args:
        port: the port; 0 takes any free one.
        report: folder of the report.
        host_names: names that a Host header may have, without a port.
    """

    request_queue_size = 128
    """Connections that wait to be accepted: a further one would be tried again by the system a second later."""

    def __init__(self, port: int, report: Path, host_names: set[str]) -> None:
        super().__init__((HOST, port), _Page)
        self.report = report
        self.host_names = host_names
        self._opened: dict[socket.socket, float] = {}
        self._changing = threading.Lock()

    def content(self, path: str) -> tuple[bytes, str] | None:
        """Content and content type of a file of the report; None for any other path."""
        top, _, quoted = path.lstrip("/").partition("/")
        name = unquote_to_bytes(quoted).decode("utf-8", "surrogateescape")
        kind = next((kind for pattern, kind in SERVED if pattern.fullmatch(name)), None)
        if kind is None or top != self.report.name or not path.startswith(f"/{top}/"):
            return None
        try:
            return read_bytes(self.report, name, LARGEST), kind
        except UnreadableError:
            return None

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            full = len(self._opened) >= MOST_CONNECTIONS
            if not full:
                self._opened[request] = time.monotonic()
        if full:
            super().shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._opened.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close the connections that have lasted too long: a client that sends a byte now and then is never idle.

        Raises:
            KeyboardInterrupt: if the command was interrupted.
        """
        check()
        now = time.monotonic()
        with self._changing:
            for request, since in self._opened.items():
                if now - since > LONGEST:
                    _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that sends what is no request, or has gone, is no news for the terminal."""


def _end(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)  # its thread then reads an end, and closes it
    except OSError:  # closed already
        return


def _host_name(header: str) -> str:
    """The name in a Host header, without its port."""
    return re.sub(r":\d{1,5}$", "", header.strip()).rstrip(".").lower()


def allowed_host(value: Any) -> str | None:
    """The setting ``allowed_host``.

    Raises:
        ConfigError: if it is no name.
    """
    if value is not None and not (isinstance(value, str) and NAME.fullmatch(value)):
        raise ConfigError(
            f"allowed_host={value} is invalid.\nIt must be a name without a port, as reports.example.org, or null."
        )
    return value


class Dashboard:
    """Serves the report of an output folder until it is closed.

    Args:
        output_dir: the folder that holds ``runs/``.
        port: the port; 0 takes any free one.
        every: seconds between two reports.
        host: a name that browsers may call it by, besides localhost.

    Raises:
        ConfigError: if the port is taken.
        DataError: if there is no run folder yet.
    """

    def __init__(self, output_dir: Path, port: int, every: float, host: str | None = None) -> None:
        page = write_report(output_dir, every)
        names = {*HOST_NAMES, *([] if host is None else [_host_name(host)])}
        try:
            self._server = _Server(port, page.parent, names)
        except OSError as error:
            raise ConfigError(f"port={port} cannot be used: {error.strerror}.\nExpected: a free one.") from error
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._write, args=(output_dir, every), daemon=True)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}{INDEX}"

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
                write_report(output_dir, every)
            except Exception as error:  # a moved folder, a full disk: the next attempt may succeed
                print(f"The report could not be written: {printable(str(error))}", file=sys.stderr)
