"""Parts of the sentences that people read."""


def shorten(text: str, longest: int) -> str:
    """The text with at most `longest` characters; an ellipsis marks the cut."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def plural(number: int, noun: str) -> str:
    """The number and the noun, as in "1 day" and "2 days"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def full_stop(text: str) -> str:
    """The text with a full stop, unless it ends like a sentence already."""
    return text if text.endswith((".", "…", "!", "?")) else f"{text}."
