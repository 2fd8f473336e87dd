"""The media type that a request's `Accept` prefers."""

import re
from collections.abc import Sequence

from fastapi import Request

_QUALITY = re.compile(r"\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


def preferred_media_type(request: Request, *offered: str) -> str:
    """The media type that `Accept` prefers; of two with the same quality, the one that it names more exactly.

    The first one is the default. The answer will say that another `Accept` could have another answer.
    """
    request.state.accept_decided = True
    given = ",".join(request.headers.getlist("accept")) or "*/*"
    ranges = [_media_range(text) for text in given.split(",")]
    return max(offered, key=lambda media_type: _quality(media_type, ranges))


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = text.split(";")
    qualities = [float(match[1]) for parameter in parameters if (match := _QUALITY.fullmatch(parameter))]
    return name.strip().lower(), qualities[0] if qualities else 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int]:
    """The quality of the most exact range that the media type falls in, and how exact that is."""
    qualities = dict(ranges)
    forms = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    exactness = max((number for number, form in enumerate(forms) if form in qualities), default=-1)
    quality = qualities[forms[exactness]] if exactness >= 0 else 0.0
    return (quality, exactness) if quality else (0.0, -1)
