"""Progress of a renewal as JSON, and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from app.ngt.renewal.progress import Progress, PushedCertificate, RenewalRequest, Sighting
from app.ngt.vocabulary import Certificate, VmUuid

_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)
_REQUEST: TypeAdapter[RenewalRequest] = TypeAdapter(RenewalRequest)
_SIGHTING: TypeAdapter[Sighting] = TypeAdapter(Sighting)
_CERTIFICATE: TypeAdapter[Certificate] = TypeAdapter(Certificate)
_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def dump(progress: Progress) -> dict[str, Any]:
    return _PROGRESS.dump_python(progress, mode="json")  # type: ignore[no-any-return]  # pydantic says Any


def load(stored: dict[str, Any]) -> Progress:
    return _PROGRESS.validate_python(stored)


def dump_request(request: RenewalRequest) -> dict[str, Any]:
    return _REQUEST.dump_python(request, mode="json")  # type: ignore[no-any-return]  # pydantic says Any


def load_request(stored: dict[str, Any]) -> RenewalRequest:
    return _REQUEST.validate_python(stored)


def dump_sighting(sighting: Sighting) -> dict[str, Any]:
    return _SIGHTING.dump_python(sighting, mode="json")  # type: ignore[no-any-return]  # pydantic says Any


def load_sighting(stored: dict[str, Any]) -> Sighting:
    return _SIGHTING.validate_python(stored)


def load_pushed(observation: Mapping[str, Any]) -> PushedCertificate:
    """From a row of `certificate_observation` as JSON; what is handed in is always whole."""
    certificate = {name: observation[name] for name in Certificate.__slots__}
    return PushedCertificate(
        at=_TIME.validate_python(observation["observed_at"]),
        certificate=_CERTIFICATE.validate_python(certificate),
        given_by=observation["given_by"],
    )


def new_progress(vm_uuid: VmUuid, request: dict[str, Any]) -> dict[str, Any]:
    """The progress of a job that has done nothing yet."""
    return dump(Progress(vm_uuid=vm_uuid, request=load_request(request)))
