"""`[clusters.<name>.commands]`: command lines of single tools on the CVMs, without the frame around them."""

import re

from pydantic import ValidationInfo, field_validator

from app.settings.table import Table
from app.settings.value_types import validate_one_line

_PLACEHOLDER = re.compile(r"\{([\w\s-]*)\}")
# The placeholders that each command line needs; others are refused.
_PLACEHOLDERS = {
    **dict.fromkeys(("delete", "create", "mount", "refresh"), frozenset({"vm_uuid"})),
    **dict.fromkeys(("enable_application", "disable_application"), frozenset({"vm_uuid", "application"})),
}


class CommandSettings(Table):
    """None: the default of `app.ngt.tools.command_lines.Tools`."""

    profile: str = "/etc/profile"
    delete: str | None = None
    create: str | None = None
    mount: str | None = None
    refresh: str | None = None
    query: str | None = None
    list_vms: str | None = None
    list_vms_text: str | None = None
    enable_application: str | None = None
    disable_application: str | None = None

    @field_validator("*")
    @classmethod
    def _validate_placeholders(cls, line: str | None, info: ValidationInfo) -> str | None:
        if line is None:
            return None
        validate_one_line(line)
        needed = _PLACEHOLDERS.get(info.field_name or "", frozenset())
        found = set(_PLACEHOLDER.findall(line))
        if unknown := sorted(found - needed):
            raise ValueError(f"{{{unknown[0]}}} is not a placeholder of this command")
        if missing := sorted(needed - found):
            raise ValueError(f"it must contain {{{missing[0]}}}, or it could act on more than was requested")
        return line

    @field_validator("profile")
    @classmethod
    def _validate_profile(cls, profile: str) -> str:
        if not re.fullmatch(r"/[\w./-]+", profile):
            raise ValueError("it must be the absolute path of a file on the CVM")
        return profile

    def overrides(self) -> dict[str, str]:
        """The command lines that are set, by the names of the fields of `app.ngt.tools.command_lines.Tools`."""
        return self.model_dump(exclude_none=True)
