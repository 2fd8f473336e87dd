"""The body of a renewal. Unknown members are refused: a typo in a ticket must not be ignored."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.api.http.parameters import CHANGE_NUMBER_PATTERN, ChangeNumber, ClusterText, Note
from app.ngt.renewal.request import Mode, RestartAgent, WhenPoweredOff

# Of these members the job keeps a note; they do not say what is to be done to the VM.
_NOTES = frozenset(
    {
        "correlation_id",
        "correlation_display",
        "change_number",
        "requested_by",
        "on_conflict",
        "callback_target",
        "callback_record",
    }
)


class OnConflict(StrEnum):
    """The reaction to an open job of the VM."""

    JOIN = "join"
    FAIL = "fail"


def _integral(number: object) -> object:
    """JSON knows one kind of number: 30.0 is the integer 30."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


_CallbackTarget = Annotated[str, Field(max_length=63, pattern=CHANGE_NUMBER_PATTERN)]
_CallbackRecord = Annotated[str, Field(max_length=64, pattern=CHANGE_NUMBER_PATTERN)]
_Days = Annotated[int, Field(ge=0, le=3650), BeforeValidator(_integral)]


class RenewRequest(BaseModel):
    """The options of a renewal; every member may be omitted. A null or an empty text counts as omitted."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [{"skip_if_valid_days": 30, "correlation_id": "RITM0010042", "change_number": "CHG0030123"}]
        },
    )

    mode: Annotated[
        Mode | None, Field(strict=False, description="How a certificate is issued; by default as configured")
    ] = None
    force: Annotated[bool, Field(description="Renew although the certificate is good, or was just renewed")] = False
    skip_if_valid_days: Annotated[
        _Days | None, Field(description="Do nothing when the certificate is good for longer")
    ] = None
    cluster: Annotated[
        ClusterText | None,
        Field(description="The VM's cluster; by default the one where it was seen, else all that the key may use"),
    ] = None
    restart_agent: Annotated[
        RestartAgent | None,
        Field(strict=False, description="Who restarts the agent: this service over SSH, or a person"),
    ] = None
    when_powered_off: Annotated[
        WhenPoweredOff, Field(strict=False, description="proceed: renew now, and let it be picked up at boot")
    ] = WhenPoweredOff.REFUSE
    create_if_absent: Annotated[bool, Field(description="Enable NGT for a VM that does not have it")] = False
    accept_unverified: Annotated[
        bool | None, Field(description="Renew although nothing could prove it; by default as configured")
    ] = None
    on_conflict: Annotated[
        OnConflict, Field(strict=False, description="join: answer with the VM's open job if it does the same")
    ] = OnConflict.JOIN
    validate_only: Annotated[bool, Field(description="Change nothing; the job's result is the plan")] = False
    correlation_id: Annotated[Note | None, Field(description="Your own id; jobs are found by it")] = None
    correlation_display: Note | None = None
    change_number: Annotated[ChangeNumber | None, Field(description="Such as CHG0030123")] = None
    requested_by: Note | None = None
    callback_target: Annotated[
        _CallbackTarget | None,
        Field(description="A webhook target of the configuration that receives the events of this job"),
    ] = None
    callback_record: Annotated[
        _CallbackRecord | None, Field(description="Its record for this job: a sys_id, or a number such as CHG0030123")
    ] = None

    def asked(self) -> dict[str, Any]:
        """The options that differ from the default: equal for two requests for the same renewal."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude=_NOTES)  # type: ignore[arg-type]  # a set of names

    def canonical(self) -> dict[str, Any]:
        """The whole request, without what is the default anyway."""
        return self.model_dump(mode="json", exclude_defaults=True)
