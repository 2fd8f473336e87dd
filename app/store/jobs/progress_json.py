"""The progress of a renewal and its parts as the JSON that the database stores, and back."""

from functools import partial
from typing import Any

from pydantic import TypeAdapter

from app.ngt.renewal.progress import Progress, PushedCertificate, Sighting
from app.ngt.renewal.request import RenewalRequest
from app.ngt.vocabulary import VmUuid

_PROGRESS = TypeAdapter(Progress)
_REQUEST = TypeAdapter(RenewalRequest)
_SIGHTING = TypeAdapter(Sighting)
_PUSHED = TypeAdapter(PushedCertificate)

load_progress = _PROGRESS.validate_python
dump_progress = partial(_PROGRESS.dump_python, mode="json")
dump_request = partial(_REQUEST.dump_python, mode="json")
load_sighting = _SIGHTING.validate_python
dump_sighting = partial(_SIGHTING.dump_python, mode="json")


def load_pushed(observation: dict[str, Any]) -> PushedCertificate:
    """From a row of `certificate_observation`. A certificate that was handed in has all its columns."""
    at, given_by = observation["observed_at"], observation["given_by"]
    return _PUSHED.validate_python({"at": at, "certificate": observation, "given_by": given_by})


def new_progress(vm_uuid: VmUuid, request: dict[str, Any]) -> Progress:
    """The progress of a job that has done nothing yet."""
    return Progress(vm_uuid=vm_uuid, request=_REQUEST.validate_python(request))
