"""Code from outside: objects of the user's own package by ``_target_``, and what of them enters a run's id.

The id holds the ``_target_``, its arguments, and a digest of its source: of its file and of the modules of the same
package that it imports, directly or through one another.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from foundation.errors import ConfigError, DataError, UserError, causes, did_you_mean, explained, in_one_line
from foundation.names import shown

OURS = Path(__file__).parent.parent
OUR_PACKAGES = (
    *("callbacks", "curation", "datamodules", "deploy", "engine", "foundation", "lightning_modules", "models"),
    *("reports", "stages", "synthesis"),
)
"""Packages of this project: when their code changes results, the version of a stage is raised."""
TARGET = "_target_"
COLLECTIONS = (list, tuple, set, frozenset)
HYDRAS = ("_args_", "_convert_", "_partial_", "_recursive_")
"""Further keys that Hydra's ``instantiate`` reads."""


def is_plugin(value: Any) -> bool:
    return isinstance(value, Mapping) and TARGET in value


def locate(target: Any, key: str) -> Any:
    """The class or function that ``_target_`` names.

    Args:
        target: as ``my_package.my_module.Thing``.
        key: the setting that holds it, for messages.

    Raises:
        ConfigError: if its module cannot be imported, or has no such name.
    """
    if not isinstance(target, str) or "." not in target or not all(map(str.isidentifier, target.split("."))):
        raise ConfigError(f"{key}.{TARGET}={target} is invalid.\nIt must be package.module.Name.")
    module_name, _, name = target.rpartition(".")
    if (here := str(Path.cwd())) not in sys.path:  # modules of the current folder are found, as with ``python -m``
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        own = module_name == missing or module_name.startswith(f"{missing}.")
        raise ConfigError(
            f"{key}.{TARGET}={target}: there is no module {missing}"
            + (
                ".\nIt must be importable from the current folder, or installed; or set PYTHONPATH."
                if own
                else f", which {module_name} imports."
            )
        ) from error
    except (Exception, SystemExit) as error:  # a script that ends its process when it is imported
        raise ConfigError(f"{key}.{TARGET}={target}: importing {module_name} failed: {in_one_line(error)}") from error
    if not hasattr(module, name):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise ConfigError(f"{key}.{TARGET}={target}: {module_name} has no {name}.{did_you_mean(name, public)}")
    return getattr(module, name)


def build(value: Mapping[str, Any], key: str, /, *arguments: Any, kind: type | None = None, **added: Any) -> Any:
    """The object that ``{_target_: ..., name: value}`` describes.

    Args:
        value: the plugin.
        key: the setting that holds it, for messages.
        arguments: passed first.
        kind: what it must be an instance of.
        added: keyword arguments next to its own.

    Raises:
        ConfigError: if it cannot be imported, does not take these arguments, refuses them, or is of another kind.
    """
    require(value, key, *arguments, kind=kind, **added)
    from hydra.utils import instantiate  # a tenth of a second, which --help does without

    try:
        partial = instantiate(dict(value), _partial_=True, _convert_="all")  # nested ones too
        built = partial(*arguments, **added)
    except HydraException as error:
        reason = next((cause for cause in causes(error) if not isinstance(cause, HydraException)), error)
        raise ConfigError(f"{key}: {value[TARGET]} failed: {in_one_line(reason)}") from error
    except Exception as error:
        if isinstance(explained(error), UserError):  # memory ran out, and the like
            raise
        raise ConfigError(f"{key}: {value[TARGET]} failed: {in_one_line(error)}") from error
    if kind is not None and not isinstance(built, kind):
        raise ConfigError(f"{key}: {value[TARGET]} gives no {public_name(kind)}.\nIt must name a subclass.")
    return built


def require(value: Mapping[str, Any], key: str, /, *arguments: Any, kind: type | None = None, **added: Any) -> None:
    """See that an object can be imported and takes its arguments, those of :func:`build`.

    Args:
        kind: what it must be a subclass of, if it is a class.

    Raises:
        ConfigError: if it cannot, or is of another kind.
    """
    target, found = value.get(TARGET), locate(value.get(TARGET), key)
    if not callable(found):
        raise ConfigError(f"{key}.{TARGET}={target} is a {type(found).__name__}.\nIt must be a class or a function.")
    if kind is not None and isinstance(found, type) and not issubclass(found, kind):
        raise ConfigError(f"{key}.{TARGET}={target} is no subclass of {public_name(kind)}.\nIt must be one.")
    own = {name: part for name, part in value.items() if name not in (TARGET, *HYDRAS)}
    try:
        signature = inspect.signature(found)
    except ValueError:  # built-in types have none
        return
    if twice := sorted(own.keys() & added.keys()):
        raise ConfigError(f"{key}: {target} is given {', '.join(twice)} by this project.\nLeave {key}.{twice[0]} out.")
    try:
        if value.get("_partial_"):
            signature.bind_partial(*arguments, **added, **own)
        else:
            signature.bind(*arguments, *value.get("_args_", ()), **added, **own)
    except TypeError as error:
        call = signature.replace(return_annotation=signature.empty)
        raise ConfigError(
            f"{key}: {target} does not take these arguments: {error}.\nIt is called as {call}."
        ) from error
    for name, part in own.items():
        if is_plugin(part):
            require(part, f"{key}.{name}")


def public_name(kind: type) -> str:
    """A class as one imports it: ``datamodules.layouts.Layout``."""
    module = kind.__module__
    while (parent := module.rpartition(".")[0]) and getattr(sys.modules.get(parent), kind.__name__, None) is kind:
        module = parent
    return f"{module}.{kind.__name__}"


def require_trusted(values: Any, trust: str | None, source: object) -> None:
    """See that a file's values name only code that the user trusts: a checkpoint is data, and data imports no code.

    Hydra resolves ``${...}`` in what it builds: ``${oc.create:...}`` gives a ``_target_`` that stands nowhere in the
    file, and ``${oc.env:...}`` reads the user's environment. A run records its settings resolved.

    Args:
        values: settings out of a file, which may be nested.
        trust: the package, or a package or module within it, that they may name. Modules of ``torch.nn``, such as
            losses, may be named without.
        source: the file, for messages.

    Raises:
        ConfigError: if they name code of another package, or it cannot be imported.
        DataError: if a text in them is an interpolation.
    """
    if isinstance(values, str) and "${" in values:
        raise DataError(
            f"{source} is invalid: it records {shown(values)[:80]!r}, which is resolved as its network is built.\n"
            f"It must be written by this project's train.py or export.py, which record values."
        )
    parts = values.values() if isinstance(values, Mapping) else values if isinstance(values, COLLECTIONS) else ()
    if is_plugin(values):
        target = str(values[TARGET])
        if not (_is_of_torch(target) or (trust is not None and f"{target}.".startswith(f"{trust}."))):
            raise ConfigError(
                f"{source} names code from outside this project: {target}.\n"
                f"If you trust it, add trust={target.partition('.')[0]}."
            )
        locate(target, str(source))
    for part in parts:
        require_trusted(part, trust, source)


def _is_of_torch(target: str) -> bool:
    """Whether this is a class of ``torch.nn``: made with plain values, it does nothing but compute."""
    package, _, name = target.rpartition(".")
    if package != "torch.nn" or not name.isidentifier():
        return False
    from torch import nn

    kind = getattr(nn, name, None)
    return isinstance(kind, type) and issubclass(kind, nn.Module)


def source_digests(values: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the sources of all outside code among some values, which may be nested.

    Args:
        values: settings by name, of which ``_target_`` mappings count; or classes.
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, type):
            if not _is_ours(value.__module__):
                found[f"{value.__module__}.{value.__qualname__}"] = source_digest(value.__module__)
        elif isinstance(value, Mapping):
            if is_plugin(value):
                target = str(value[TARGET])
                kind = locate(target, key)
                module = getattr(kind, "__module__", None) or target.rpartition(".")[0]
                if not _is_ours(module):
                    found[target] = source_digest(module)
            found |= source_digests({f"{key}.{name}": part for name, part in value.items()})
        elif isinstance(value, list | tuple):
            found |= source_digests({f"{key}[{place}]": part for place, part in enumerate(value)})
    return found


def _is_ours(module: str) -> bool:
    """Whether a module is of this project, whose stages carry versions."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and _lies_in_our_packages(Path(file))


def _lies_in_our_packages(file: Path) -> bool:
    path = file.resolve()
    return path.is_relative_to(OURS) and path.relative_to(OURS).parts[0] in OUR_PACKAGES


def source_digest(module: str) -> str:
    """Digest of a module's source and of the modules next to it that it imports; of a library, of its one file."""
    total = hashlib.sha256()
    for name, path in sorted(_sources(module, None, {}).items()):
        total.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _sources(module: str, root: Path | None, found: dict[str, Path]) -> dict[str, Path]:
    """The files of a module and of what it imports from the folder ``root`` that its package lies in."""
    if module in found:
        return found
    try:
        spec = importlib.util.find_spec(module)
    except Exception:  # a name within a module, as imported from it; or a package that is broken and not used
        return found
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return found
    path, is_package = Path(spec.origin), spec.submodule_search_locations is not None
    if root is None:
        root = path.parents[module.count(".") + is_package]
    elif not path.is_relative_to(root) or _lies_in_our_packages(path):
        return found
    found[module] = path
    if "site-packages" in path.parts:  # a library is replaced as a whole
        return found
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # it is not imported either, or its error would be known
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            package = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            _sources(name, root, found)
    return found
