"""Settings of a daemon: one TOML file, and three places that go before it.

    command line  >  environment (LOSSBOOK_<SECTION>_<KEY>)  >  file  >  default

A daemon declares its settings as a struct of sections, each a struct of values with their range and description
(``msgspec.Meta``); this module reads, checks, and writes the commented file. Every error names the setting and where
its value came from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

FILE_NAME: Final = "lossbook.toml"
ENVIRONMENT_PREFIX: Final = "LOSSBOOK_"

T = TypeVar("T", bound=msgspec.Struct)


class SettingError(Exception):
    """A setting that cannot be used.

    Attributes:
        setting: ``section.key``, or the file.
        source: where the value came from.
    """

    def __init__(self, setting: str, source: str, problem: str) -> None:
        super().__init__(f"setting {setting} ({source}): {problem}")
        self.setting = setting
        self.source = source


class OverrideError(SettingError):
    """A setting of the command line or the environment that cannot be used: what was typed, not what a file says."""


class Setting(msgspec.Struct, frozen=True):
    """One documented setting."""

    section: str
    key: str
    type: Any
    default: object
    description: str

    @property
    def name(self) -> str:
        """``section.key``, as on the command line and in errors."""
        return f"{self.section}.{self.key}"

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return f"{ENVIRONMENT_PREFIX}{self.section}_{self.key}".upper()


def settings_of(kind: type[msgspec.Struct]) -> Iterator[Setting]:
    """All settings of a struct of sections, in order of declaration."""
    for section in msgspec.structs.fields(kind):
        for field in msgspec.structs.fields(section.type):
            default = field.default if field.default is not msgspec.NODEFAULT else None
            yield Setting(section.name, field.name, field.type, default, _description(field.type))


def _description(annotation: Any) -> str:
    for note in getattr(annotation, "__metadata__", ()):
        if isinstance(note, msgspec.Meta) and note.description:
            return note.description
    return ""


def load(
    kind: type[T], *, file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, str] | None = None
) -> T:
    """Read the settings.

    Args:
        kind: struct of sections.
        file: the TOML file; None: defaults only. It must exist.
        environment: as ``os.environ``; variables of no known section are not looked at.
        overrides: ``section.key`` -> text, from the command line.

    Raises:
        SettingError: naming the setting, where it came from, and what is wrong.
    """
    known = {setting.name: setting for setting in settings_of(kind)}
    values: dict[str, tuple[object, str]] = {}
    if file is not None:
        values.update(_from_file(file, known))
    values.update(_from_environment(environment, known))
    for name, text in (overrides or {}).items():
        _require_known(name, "command line", known)
        values[name] = (text, "command line")
    sections: dict[str, dict[str, object]] = {setting.section: {} for setting in known.values()}
    for name, (value, source) in values.items():
        setting = known[name]
        try:
            sections[setting.section][setting.key] = msgspec.convert(value, setting.type, strict=_is_file(source))
        except msgspec.ValidationError as error:
            raise _problem(name, source, f"{error}. {setting.description}") from error
    try:
        return msgspec.convert(sections, kind)
    except msgspec.ValidationError as error:
        raise SettingError("file", str(file or "defaults"), str(error)) from error


def _from_file(file: Path, known: Mapping[str, Setting]) -> dict[str, tuple[object, str]]:
    source = str(file.absolute())
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError("file", source, "there is none: make a home first (`lossbook node init`)") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError("file", source, f"cannot be read: {error}") from error
    values: dict[str, tuple[object, str]] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise SettingError(section, source, "stands outside of a [section]")
        for key, value in content.items():
            _require_known(f"{section}.{key}", source, known)
            values[f"{section}.{key}"] = (value, source)
    return values


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, tuple[object, str]]:
    by_variable = {setting.variable: setting.name for setting in known.values()}
    prefixes = tuple({f"{ENVIRONMENT_PREFIX}{setting.section}_".upper() for setting in known.values()})
    values: dict[str, tuple[object, str]] = {}
    for variable, text in environment.items():
        if not variable.startswith(prefixes):
            continue
        name = by_variable.get(variable)
        if name is None:
            raise _problem(variable, "environment", _unknown(variable, by_variable))
        values[name] = (text, f"environment {variable}")
    return values


def _require_known(name: str, source: str, known: Mapping[str, Setting]) -> None:
    if name not in known:
        raise _problem(name, source, _unknown(name, known))


def _is_file(source: str) -> bool:
    return source.startswith("/")


def _problem(name: str, source: str, problem: str) -> SettingError:
    kind = SettingError if _is_file(source) else OverrideError
    return kind(name, source, problem)


def _unknown(name: str, known: Mapping[str, object]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
    return f"there is no such setting; {hint}"


def render(kind: type[msgspec.Struct], values: Mapping[str, object]) -> str:
    """The commented TOML file: ``values`` by ``section.key``, everything else shown as its default, commented out.

    Raises:
        OverrideError: there is no such setting, or a value, which may be given as text, is none of its setting.
    """
    known = {setting.name: setting for setting in settings_of(kind)}
    for name in values:
        _require_known(name, "command line", known)
    lines = [
        "# Settings of a lossbook daemon. The command line and LOSSBOOK_<SECTION>_<KEY> in the environment go before",
        "# this file. A line that is commented out shows the default.",
    ]
    section = ""
    for setting in known.values():
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        lines += [f"# {line}" for line in _wrapped(setting.description)]
        if setting.name in values:
            lines.append(f"{setting.key} = {_toml(_value(setting, values[setting.name]))}")
        else:
            lines.append(f"#{setting.key} = {_toml(setting.default)}")
    return "\n".join(lines) + "\n"


def _value(setting: Setting, value: object) -> object:
    try:
        return msgspec.convert(value, setting.type, strict=False)
    except msgspec.ValidationError as error:
        raise _problem(setting.name, "command line", f"{error}. {setting.description}") from error


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    escaped = str(value if value is not None else "").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
