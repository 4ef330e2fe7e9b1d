"""How a store of S3 is reached, by each of the three libraries that do.

Credentials are references until the moment of use. An access goes to Spark's workers as it is, and they read
the variable or the file that it names themselves: no value stands in a task, a log or an argument.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.errors import SettingsError
from headgate.secret import read_secret

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["S3Access", "s3_store"]

# It would send commits through a table of DynamoDB that nobody else looks at.
_OTHER_LOCKING = "AWS_S3_LOCKING_PROVIDER"
_KEY, _TOKEN, _PROFILE = "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE"
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


@dataclass(frozen=True, slots=True)
class S3Access:
    """Without references the libraries look where AWS says: the environment, then the machine's own role."""

    region: str
    home: Path  # where the paths of references begin
    endpoint: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    session_token: str | None = None

    def credentials(self) -> dict[str, str]:
        """By the names of AWS. Raises SettingsError where one is not there, or where the environment says
        something that not all of the libraries heed: they would come as different people."""
        self._check_environment()
        references = {
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "aws_session_token": self.session_token,
        }
        return {name: read_secret(each, self.home) for name, each in references.items() if each is not None}

    def for_deltalake(self) -> dict[str, str]:
        """Storage options."""
        return {**self.credentials(), **self._common()}

    def for_arrow(self) -> Any:
        """A file system of Arrow's own, for datasets: its threads touch no object of Python."""
        from pyarrow.fs import S3FileSystem

        secrets = {name.removeprefix("aws_"): value for name, value in self.credentials().items()}
        names = {"access_key_id": "access_key", "secret_access_key": "secret_key"}
        return S3FileSystem(
            **{names.get(name, name): value for name, value in secrets.items()},
            region=self.region,
            endpoint_override=self.endpoint,
        )

    def _check_environment(self) -> None:
        own = self.access_key is not None
        self._check_endpoint()
        if os.environ.get(_OTHER_LOCKING):
            raise SettingsError(
                f"{_OTHER_LOCKING} is set: commits would be kept apart by that table, and not by the store",
                expected="conditional put alone, as every other writer of these tables has it",
                help=f"unset {_OTHER_LOCKING}",
            )
        if own and self.session_token is None and os.environ.get(_TOKEN):
            raise SettingsError(
                f"{_TOKEN} is set, and [s3] names keys without a session_token: some of the libraries that "
                "read and write tables would send the token with these keys, and others not",
                expected="a session_token beside the keys, or no token in the environment",
                help=f'set s3.session_token = "env:{_TOKEN}", or unset {_TOKEN}',
            )
        if not own and os.environ.get(_PROFILE) and not os.environ.get(_KEY):
            raise SettingsError(
                f"{_PROFILE} is set, and not all of the libraries that read and write tables know profiles",
                expected=f"keys by reference in [s3], {_KEY} and its secret in the environment, or the "
                "role of the machine alone",
                help=f"name the keys in [s3], or unset {_PROFILE}",
            )

    def _check_endpoint(self) -> None:
        name = next((each for each in _ENDPOINTS if os.environ.get(each)), None)
        if self.endpoint is None and name is not None:
            raise SettingsError(
                f"{name} is set, and [s3] names no endpoint: some of the libraries that read and write "
                "tables would go there, and others to AWS",
                expected="the address of the store in [s3], or none anywhere",
                help=f"set s3.endpoint, or unset {name}",
            )

    def _common(self) -> dict[str, str]:
        """Said in full: the environment says it otherwise where nothing is said. A version of the log is
        written where there is none, or not at all."""
        found = {"aws_region": self.region, "aws_conditional_put": "etag"}
        if self.endpoint is not None:
            # The second would win if only the environment had it.
            found |= {"aws_endpoint_url": self.endpoint, "aws_endpoint_url_s3": self.endpoint}
            found |= {"aws_virtual_hosted_style_request": "false"}
            found |= {"aws_allow_http": "true"} if self.endpoint.startswith("http://") else {}
        return found

    def for_objects(self, **client: str) -> Mapping[str, Any]:
        """What obstore's S3Store takes. `client`: options of its connections."""
        common = self._common()
        http = common.pop("aws_allow_http", "false") == "true"
        return {"config": {**self.credentials(), **common}, "client_options": {"allow_http": http, **client}}


def s3_store(access: S3Access, bucket: str) -> S3Store:
    """One client for all objects of a bucket, which keeps its connections as long as what the references say
    is the same: where it was changed, the next use has it."""
    return _client(access, bucket, tuple(access.credentials().items()))


@lru_cache(maxsize=8)
def _client(access: S3Access, bucket: str, credentials: tuple[tuple[str, str], ...]) -> S3Store:
    from obstore.store import S3Store

    options = access.for_objects()
    return S3Store(bucket, **{**options, "config": {**options["config"], **dict(credentials)}})
