"""The scripts and styles of the report's page: libraries and the project's own, each with the digest of its policy.

Charts are those of Apache ECharts (``vendor/``), tables those of DataTables (of the Python package itables). Neither
evaluates text as code, so that the page's content policy names the digests of its scripts and allows no other.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ECHARTS = HERE / "vendor" / "echarts.min.js"
ECHARTS_DIGEST = "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0"
"""SHA-256 of npm's echarts 6.1.0, dist/echarts.min.js."""
OWN = ("data", "charts", "table", "compare", "run", "main")
"""The project's own scripts in ``app/``, in their order."""


@dataclass(frozen=True)
class Libraries:
    """Scripts of the page, in their order, and their styles."""

    scripts: tuple[str, ...]
    style: str

    @property
    def digests(self) -> str:
        """The sources of the policy ``script-src``."""
        return " ".join(f"'{_digest(script)}'" for script in self.scripts)


@functools.cache
def libraries() -> Libraries:
    """Read the libraries once."""
    package = _itables()
    own = "\n".join((HERE / "app" / f"{name}.js").read_text(encoding="utf-8") for name in OWN)
    table = _data_tables((package / "dt_bundle.js").read_text(encoding="utf-8"))
    style = (package / "dt_bundle.css").read_text(encoding="utf-8")
    scripts = (_echarts(), table, f'"use strict";\n{{\n{own}\n}}')
    return Libraries(scripts, _without_fetches(style))


def _echarts() -> str:
    content = ECHARTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != ECHARTS_DIGEST:
        raise RuntimeError(f"{ECHARTS} is not the file of its version; reports/vendor/README.md describes it.")
    return content.decode("utf-8")


def _itables() -> Path:
    found = importlib.util.find_spec("itables")  # not imported: it would import pandas where that is installed
    if found is None or found.origin is None:
        raise RuntimeError("The package itables is missing; do: make setup")
    return Path(found.origin).parent / "html"


def _data_tables(module: str) -> str:
    """The bundle of DataTables, an ES module, as a script that defines ``DataTable``."""
    body, exports = re.fullmatch(r"(.*)export\{([^}]*)\};?(.*)", module, re.DOTALL).group(1, 2)  # type: ignore[union-attr]
    (query,) = (part.partition(" as ")[0] for part in exports.split(",") if part.endswith(" as jQuery"))
    return f"const DataTable = (() => {{ {body}; return {query}.fn.dataTable; }})();"


def _without_fetches(style: str) -> str:
    """A style sheet without what a browser would load."""
    return re.sub(r"url\((?!['\"]?data:)[^)]*\)", "none", style)


def _digest(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
