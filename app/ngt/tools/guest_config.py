"""The guest's `ngt_config.json`, which names the VM tools entity that the agent belongs to."""

import json

from app.ngt.tools.text import printable


def parse_guest_config(text: str) -> str | None:
    """`ngt_uuid` in lower case; None where the text has none."""
    start = text.find("{")
    try:
        config = json.loads(text[start : text.rfind("}") + 1]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None
    ngt_uuid = config.get("ngt_uuid") if isinstance(config, dict) else None
    return printable(ngt_uuid).lower() or None if isinstance(ngt_uuid, str) else None
