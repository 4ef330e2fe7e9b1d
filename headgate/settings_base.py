"""What every section of the settings is made of."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

__all__ = ["SecretRef", "Section"]

_REFERENCE = "a reference, env:NAME or file:PATH"


def _checked_reference(value: str) -> str:
    # The message goes without the value: it may well be the secret itself.
    if not re.fullmatch(r"(env|file):.+", value):
        raise ValueError(f"a value in a secret's place; expected {_REFERENCE}")
    return value


SecretRef = Annotated[str, AfterValidator(_checked_reference)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
