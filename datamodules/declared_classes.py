"""``classes.yaml``: a user's own classes as data, read without running anything and checked entry by entry."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from datamodules.labels import CLASS_SETS, IGNORE, Colour, LabelSet
from foundation.errors import DataError, nearest
from foundation.names import shown
from foundation.paths import ordinary
from foundation.reading import UnreadableError, plain_yaml

FILE = "classes.yaml"
MOST_BYTES = 65_536
MOST_CLASSES = 254
"""Ids 0..253; 254 is free for the reader of coloured label maps, 255 is :data:`datamodules.labels.IGNORE`."""
DEEPEST = 8
"""Levels of nested entries; the format has four."""
KEYS = ("name", "classes", "pairs", "left", "maps_to", "split_seed")
CLASS_KEYS = ("name", "id", "color")
NAME = re.compile(r"\w[\w .-]{0,62}")
"""Names are used as table columns and in file names."""
EXAMPLE = """Expected, as in
  classes:
    - {name: background, id: 0, color: [0, 0, 0]}
    - {name: skin, id: 1, color: [204, 0, 0]}
or classes: LaPa (or CelebAMask-HQ) for label maps with the ids of that set.
docs/your_own_faces.md explains every key."""


@dataclass(frozen=True)
class DeclaredClasses:
    """The content of a ``classes.yaml``.

    Args:
        labels: the classes.
        split_seed: of the random split, where neither folders nor lists make one.
    """

    labels: LabelSet
    split_seed: int


def read_classes(path: Path) -> DeclaredClasses:
    """The classes that a file declares.

    Args:
        path: a ``classes.yaml``, at most 64 KiB.

    Raises:
        DataError: if the file is absent, is not YAML, or an entry of it is invalid; with the file and what is expected.
    """
    return _Reader(path).read()


@dataclass(frozen=True)
class _Reader:
    path: Path

    def read(self) -> DeclaredClasses:
        content = self._content()
        for key in content:
            self._require_known("the unknown key", key, KEYS)
        entries = content.get("classes")
        if isinstance(entries, str):
            return DeclaredClasses(self._published(entries, content), self._seed(content.get("split_seed", 0)))
        if not isinstance(entries, list) or not entries:
            self._refuse("has no list of classes", EXAMPLE)
        self._require_class_entries(entries)
        name_of_id = {entry["id"]: entry["name"] for entry in sorted(entries, key=lambda entry: entry["id"])}
        ignored = name_of_id.pop(IGNORE, None)
        names = tuple(name_of_id.values())
        colours = self._colours(entries)
        left = content.get("left", "image")
        if left not in ("image", "subject"):
            self._refuse(
                f"has left: {reprlib.repr(left)}",
                "Expected: image (left classes lie on the image's left) or subject (they are the subject's left).",
            )
        labels = LabelSet(
            name=self._name(content.get("name")),
            classes=names,
            palette=tuple(colours.get(name) or default_colour(class_id) for class_id, name in enumerate(names)),
            mirrored=self._pairs(content.get("pairs"), names),
            own_sides=left == "subject",
            mappings=self._mappings(content.get("maps_to"), names),
            coloured=bool(colours),
            ignored=ignored is not None,
            ignored_colour=None if ignored is None else colours.get(ignored),
        )
        return DeclaredClasses(labels, self._seed(content.get("split_seed", 0)))

    def _published(self, given: str, content: Mapping[str, Any]) -> LabelSet:
        """The classes of a published set, which ``classes`` names."""
        labels = CLASS_SETS.get(set_name(given))
        if labels is None:
            known = _one_of(set_name(given), tuple(CLASS_SETS))
            self._refuse(f"has no list of classes, but {reprlib.repr(given)}", f"{known}\n{EXAMPLE}")
        if own := [key for key in ("pairs", "left", "maps_to") if key in content]:
            self._refuse(f"has {own[0]} next to classes: {given}", f"Expected: no {own[0]}, which {given} declares.")
        return replace(labels, name=self._name(content.get("name")))

    def _refuse(self, what: str, expected: str) -> NoReturn:
        raise DataError(f"{self.path} {what}.\n{expected}")

    def _require_known(self, what: str, given: Any, known: Sequence[str]) -> None:
        if given not in known:
            self._refuse(f"has {what} {reprlib.repr(given)}", _one_of(given, known))

    def _content(self) -> Mapping[str, Any]:
        try:
            with ordinary(self.path).open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be read ({error.strerror}): it declares the classes of the label maps.\n{EXAMPLE}"
            ) from error
        if len(raw) > MOST_BYTES:
            self._refuse(f"is larger than {MOST_BYTES} bytes", EXAMPLE)
        try:
            content = plain_yaml(raw.decode("utf-8-sig"), DEEPEST)
        except UnreadableError as error:
            raise DataError(f"{self.path} is invalid: {error}.\n{EXAMPLE}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path} is invalid: it is no UTF-8: {error}.\n{EXAMPLE}") from error
        if not isinstance(content, dict):
            self._refuse("holds no keys", EXAMPLE)
        return content

    def _require_class_entries(self, entries: Sequence[Any]) -> None:
        """Require a unique name and a unique id for every class, the ids without a gap."""
        taken: dict[str, set[Any]] = {"name": set(), "id": set()}
        for number, entry in enumerate(entries, start=1):
            where = f"class {number}"
            if not isinstance(entry, dict):
                self._refuse(f"has {reprlib.repr(entry)} as {where}", EXAMPLE)
            if unknown := [key for key in entry if key not in CLASS_KEYS]:
                self._refuse(
                    f"has the unknown key {reprlib.repr(unknown[0])} in {where}", _one_of(unknown[0], CLASS_KEYS)
                )
            name, class_id = entry.get("name"), entry.get("id")
            if not isinstance(name, str) or not NAME.fullmatch(name):
                self._refuse(
                    f"has the name {reprlib.repr(name)} in {where}",
                    "Expected: a text of letters, digits, _, -, . and spaces, at most 63; in quotes where YAML reads "
                    "something else, as for no, on and 1.",
                )
            if type(class_id) is not int:
                self._refuse(f"has the id {reprlib.repr(class_id)} for {name}", EXAMPLE)
            for key, value in (("name", name), ("id", class_id)):
                if value in taken[key]:
                    self._refuse(f"has the {key} {value} twice", f"Expected: another {key} for each class.")
                taken[key].add(value)
        ids = sorted(taken["id"] - {IGNORE})
        if ids != list(range(len(ids))) or not 1 <= len(ids) <= MOST_CLASSES:
            self._refuse(
                f"has the ids {reprlib.repr(sorted(taken['id']))}",
                f"Expected: 0, 1, 2 and so on without a gap, 0 the background, at most {MOST_CLASSES} classes; and "
                f"{IGNORE}, if pixels are to be ignored.",
            )

    def _colours(self, entries: Sequence[Mapping[str, Any]]) -> dict[str, Colour]:
        """The colour of each class; empty if none is declared."""
        with_colour = [entry for entry in entries if entry.get("color") is not None]
        if with_colour and len(with_colour) < len(entries):
            missing = next(entry["name"] for entry in entries if entry.get("color") is None)
            self._refuse(
                f"has no color for {missing}",
                "Expected: a color for every class; or for none, where label maps hold ids.",
            )
        colours: dict[str, Colour] = {}
        for entry in with_colour:
            colour = _colour(entry["color"])
            if colour is None:
                self._refuse(
                    f"has the color {reprlib.repr(entry['color'])} for {entry['name']}",
                    'Expected: three numbers 0..255, as [204, 0, 0], or a text, as "#cc0000".',
                )
            same = next((name for name, other in colours.items() if other == colour), None)
            if same is not None:
                self._refuse(
                    f"has the color {list(colour)} for {same} and for {entry['name']}",
                    "Expected: a color for each class.",
                )
            colours[entry["name"]] = colour
        return colours

    def _name(self, name: Any) -> str:
        if name is None:
            name = shown(self.path.resolve().parent.name) or "folder"
            return "folder" if set_name(name) in CLASS_SETS else name
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self._refuse(f"has the name {reprlib.repr(name)}", "Expected: a short text, as my_faces.")
        if set_name(name) in CLASS_SETS:
            self._refuse(
                f"has the name {name}, which is that of a published class set",
                "Expected: another name; maps_to declares how the classes correspond.",
            )
        return name

    def _pairs(self, pairs: Any, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
        expected = "Expected: pairs of two classes, as in pairs: [[left_eye, right_eye]]; each class at most once."
        if not isinstance(pairs, list | None):
            self._refuse(f"has pairs: {reprlib.repr(pairs)}", expected)
        seen: list[str] = []
        for pair in pairs or ():
            if not isinstance(pair, list) or len(pair) != 2:
                self._refuse(f"has the pair {reprlib.repr(pair)}", expected)
            for name in pair:
                self._require_known("a pair with the unknown class", name, names)
                if name in seen:
                    self._refuse(f"has the class {name} twice in pairs", expected)
                seen.append(name)
        ids = [names.index(name) for name in seen]
        return tuple(zip(ids[::2], ids[1::2], strict=True))

    def _mappings(self, mappings: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
        if not isinstance(mappings, dict | None):
            self._refuse(
                f"has maps_to: {reprlib.repr(mappings)}",
                f"Expected: maps_to: {{<one of {', '.join(CLASS_SETS)}>: {{...}}}}.",
            )
        found: dict[str, dict[str, str]] = {}
        for given, classes in (mappings or {}).items():
            target = CLASS_SETS.get(set_name(given))
            if target is None:
                expected = _one_of(set_name(given), tuple(CLASS_SETS))
                self._refuse(f"has maps_to of the unknown class set {reprlib.repr(given)}", expected)
            where = f"maps_to: {given}"
            if not isinstance(classes, dict):
                self._refuse(f"has {where}: {reprlib.repr(classes)}", "Expected: <class>: <class>, a line each.")
            for own, other in classes.items():
                self._require_known(f"{where} of the unknown class", own, names)
                self._require_known(f"{where} of {own} to the unknown class", other, target.classes)
            if missing := [name for name in names if name not in classes]:
                self._refuse(
                    f"has {where} without {reprlib.repr(missing)}",
                    f"Expected: a class of {target.name} for every class, background for what that set does not know.",
                )
            found[target.name] = {name: classes[name] for name in names}
        return found

    def _seed(self, seed: Any) -> int:
        if type(seed) is not int or not 0 <= seed < 2**32:
            self._refuse(f"has split_seed: {reprlib.repr(seed)}", "Expected: an integer, 0 to 4294967295.")
        return seed


def set_name(given: Any) -> str:
    """The name of a class set as this project writes it: ``LaPa`` is ``lapa``, ``CelebAMask-HQ`` ``celebamask_hq``."""
    return str(given)[:100].lower().replace("-", "_")


def default_colour(class_id: int) -> Colour:
    """The colour of a class that declares none: that of PASCAL VOC's colour map, black for id 0."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (class_id >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


def _colour(given: Any) -> Colour | None:
    if isinstance(given, str) and re.fullmatch("#[0-9a-fA-F]{6}", given):
        return int(given[1:3], 16), int(given[3:5], 16), int(given[5:7], 16)
    if isinstance(given, list) and len(given) == 3 and all(type(part) is int and 0 <= part <= 255 for part in given):
        return given[0], given[1], given[2]
    return None


def _one_of(given: Any, known: Sequence[str]) -> str:
    near = nearest(str(given)[:100], known)
    return f"Expected: one of {', '.join(known)}." + (f" Did you mean {near}?" if near else "")
