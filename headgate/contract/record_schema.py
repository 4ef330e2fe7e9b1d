"""Where a source's schema is, and once the contract was read what it says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MESSAGE", "RecordSchema"]

MESSAGE = r"^[A-Za-z_][\w.]*$"


class RecordSchema(BaseModel):
    """The schema of Avro and Protobuf records: a file beside the contract, or a subject of the registry.

    `message` is the full name of a Protobuf message. `text`, `id` and `version` of a registry are filled in
    when the contract is read and frozen with it: every process runs from that text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = Field(default=None, min_length=1, max_length=400)
    registry: bool = False
    subject: str | None = Field(default=None, min_length=1, max_length=400)
    message: str | None = Field(default=None, pattern=MESSAGE, max_length=400)
    version: int | None = Field(default=None, strict=True, ge=1)
    text: str | None = None
    id: int | None = None

    @model_validator(mode="after")
    def _file_or_registry(self) -> RecordSchema:
        if (self.file is None) == (not self.registry):
            raise ValueError("expected either `file: PATH` or `registry: true` with `subject: NAME`")
        if self.registry and self.subject is None:
            raise ValueError("expected `subject: NAME` with `registry: true`")
        if not self.registry and (self.subject is not None or self.version is not None):
            raise ValueError("`subject` and `version` go with `registry: true`")
        return self
