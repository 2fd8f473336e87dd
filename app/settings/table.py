"""The base class of every table of the configuration."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table of the TOML file: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
