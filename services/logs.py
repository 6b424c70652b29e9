"""Structured logs of a daemon: one event a line on stderr, JSON for machines or plain for people.

Events carry ids, heights, codes and counts. Key material, passphrases, envelope bodies and certificates never go in:
values under such names are masked, whoever passes them.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO, cast

import structlog

SECRET_NAMES: Final = frozenset({"seed", "secret", "passphrase", "password", "private_key", "leaf_key_pem", "body"})
"""Field names whose values are never written."""


def _mask(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in SECRET_NAMES & event.keys():
        event[name] = "(not logged)"
    return event


def _hex(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Bytes are ids and digests here: shown as the hex people compare."""
    for name, value in event.items():
        if isinstance(value, bytes):
            event[name] = value.hex()
    return event


class _Output:
    """stderr, as far as it takes anything: a log on a full disk must not end the daemon that reports the full disk."""

    def __init__(self) -> None:
        self.dropped = 0

    def write(self, text: str) -> None:
        """Write one line; where the system refuses, count it."""
        try:
            sys.stderr.write(text)
        except OSError:
            self.dropped += 1

    def flush(self) -> None:
        """See ``write``."""
        try:
            sys.stderr.flush()
        except OSError:
            self.dropped += 1


def configure(log_format: str, level: str) -> None:
    """Set up logging of the whole process.

    Args:
        log_format: ``json`` or ``console``.
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.types.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            _hex,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Output())),
        cache_logger_on_first_use=True,
    )
    # What libraries say through the standard library goes the same way; only what is wrong is of interest.
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING), format="%(name)s: %(message)s")


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events say which part of the daemon speaks."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
