"""Parts of the sentences that people read."""


def shorten(text: str, longest: int) -> str:
    """The text with at most `longest` characters; an ellipsis marks the cut."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
