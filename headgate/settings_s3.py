"""The section `[s3]`: how the store is reached that `roots.tables` names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from headgate.address import checked_store_url
from headgate.settings_base import SecretRef, Section
from headgate.tables.access import S3Access

__all__ = ["S3Settings"]


class S3Settings(Section):
    """Only for tables on S3. Without references the credentials are those of the environment or the machine,
    as AWS names them."""

    endpoint: Annotated[str, AfterValidator(checked_store_url)] | None = None
    region: str = Field(default="us-east-1", pattern=r"^[a-z0-9-]{1,40}$")
    allow_http: bool = False
    access_key: SecretRef | None = None
    secret_key: SecretRef | None = None
    session_token: SecretRef | None = None

    @model_validator(mode="after")
    def _whole(self) -> S3Settings:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("expected both access_key and secret_key, or neither")
        if self.session_token is not None and self.access_key is None:
            raise ValueError("expected access_key and secret_key beside a session_token")
        if (self.endpoint or "").startswith("http://") and not self.allow_http:
            raise ValueError("the endpoint is http, in which everybody on the way reads the rows; expected "
                             "https, or allow_http = true")  # fmt: skip
        return self

    def access(self, home: Path, state: str) -> S3Access:
        """With `{state}` filled into the paths of references."""
        key, secret, token = (
            each.replace("{state}", state) if each is not None else None
            for each in (self.access_key, self.secret_key, self.session_token)
        )
        return S3Access(self.region, home, self.endpoint, key, secret, token)
