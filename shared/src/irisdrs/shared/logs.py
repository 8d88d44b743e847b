"""Structured logs: one event a line on standard error; JSON for machines, colours for people."""

import logging
import sys

import structlog

from irisdrs.shared.settings import HostSettings


def configure(settings: HostSettings) -> None:
    """Set up logging for this process."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    people = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    renderer = structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if people else [structlog.processors.format_exc_info]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),  # the one of the moment: somebody may replace it
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, force=True)
    for library in ("aiormq", "aio_pika"):  # log with tracebacks what they also raise, and we say in our words
        logging.getLogger(library).setLevel(logging.CRITICAL)
