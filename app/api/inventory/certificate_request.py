"""What a caller may send to hand a guest's certificate in: its public part, as text in JSON."""

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.http.parameters import ClusterText
from app.ngt.tools.certificate import MAX_PEM_BYTES, refuse_private_key

_EXAMPLE = """\
-----BEGIN CERTIFICATE-----
MIIBWDCB/6ADAgECAhAAiKxSiGGfB/Qt41q3z6w1MAoGCCqGSM49BAMCMC4xLDAq
BgNVBAMMI1NpbXVsYXRlZCBOR1QgY2VydGlmaWNhdGUgYXV0aG9yaXR5MB4XDTI2
MTEyMzAxMDIwM1oXDTI5MDgxOTAxMDIwM1owLzEtMCsGA1UEAwwkNWU2YjBhM2Mt
NTJmMS00ZDBlLWI0NWYtOWY4YTRhMWY0YjExMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEbeCNko0zYLWAAK73lw1AFJnt6E6usnFzFVVhpKAFYX8pUHPenqX51OpX
qx6iuh/OJLTOh110wUKxj8+gqpUTXTAKBggqhkjOPQQDAgNIADBFAiBwn14H235u
D34Zl8RaBrS7+JY8yHoFCr0McgOcXauEKQIhALxUA+b1ff65XzpiuP1vuFv8XKQP
CHhyr2XiClts+Tkz
-----END CERTIFICATE-----
"""


class CertificateRequest(BaseModel):
    """The certificate that is in the guest, and where the VM is."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, json_schema_extra={"examples": [{"certificate_pem": _EXAMPLE}]}
    )

    # Its length is looked at later, since what is too large has an answer of its own.
    certificate_pem: Annotated[
        str,
        Field(
            description="The text of `client-cert.pem`, also with the certificates of its issuers; never a private key",
            json_schema_extra={"maxLength": MAX_PEM_BYTES},
        ),
    ]
    cluster: Annotated[
        ClusterText | None,
        Field(description="The VM's cluster; by default the one where it was seen last"),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_private_key(cls, sent: object) -> object:
        """Before any member is looked at: no answer about a wrong one may repeat what it holds."""
        try:
            text = json.dumps(sent, ensure_ascii=False)
        except RecursionError:
            raise ValueError("The body is nested too deeply.") from None
        refuse_private_key(text)
        return sent
