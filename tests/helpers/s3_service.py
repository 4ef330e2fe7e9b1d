"""The S3 of the tests as a service to start and stop, and the settings that lead to it."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from headgate.local.ports import free_port
from headgate.tables.access import s3_store
from headgate.tables.place import S3Folder
from headgate.torture.services import Service, until

__all__ = ["ACCESS_KEY", "SECRET_KEY", "keys_below", "s3_environ", "s3_server"]

CHECKOUT = Path(__file__).resolve().parents[2]
BUCKET = "lake"
ACCESS_KEY, SECRET_KEY = "AKIATESTSOFHEADGATE1", "a-secret-that-nothing-may-show"
_START_SECONDS = 120.0


@contextmanager
def s3_server(log: Path, kind: str = "") -> Iterator[str]:
    """Its address, with the bucket made. `kind`: that of `s3_server.py`."""
    port = free_port()
    script = Path(__file__).with_name("s3_server.py")
    command = [str(_python()), str(script), str(port), ACCESS_KEY, *filter(None, [kind])]
    log.parent.mkdir(parents=True, exist_ok=True)
    service = Service("the S3 server", command, "127.0.0.1", port, log)
    service.start()
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _made(f"{url}/{BUCKET}"), _START_SECONDS, f"the S3 server makes a bucket, see {log}")
        yield url
    finally:
        service.stop()


def _python() -> Path:
    """Of what `tools/setup.sh --tests` makes; a test without it fails, for it has shown nothing."""
    found = CHECKOUT / "var" / "s3-server" / "bin" / "python"
    if not found.exists():
        pytest.fail(f"no S3 server in {found.parents[1]}\n  run: tools/setup.sh --tests", pytrace=False)
    return found


def _made(url: str) -> bool:
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20250101/us-east-1/s3/aws4_request"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="PUT", headers=signed), timeout=60
        ) as answer:
            return bool(answer.status == 200)
    except ConnectionError:
        return False


def s3_environ(url: str, prefix: str = "warehouse") -> dict[str, str]:
    """HEADGATE_* for tables in the bucket, and the variables that they refer to."""
    return {
        "HEADGATE_ROOTS_TABLES": f"s3://{BUCKET}/{prefix}",
        "HEADGATE_S3_ENDPOINT": url,
        "HEADGATE_S3_ALLOW_HTTP": "true",
        "HEADGATE_S3_ACCESS_KEY": "env:LAKE_KEY",
        "HEADGATE_S3_SECRET_KEY": "env:LAKE_SECRET",
        "LAKE_KEY": ACCESS_KEY,
        "LAKE_SECRET": SECRET_KEY,
    }


def keys_below(folder: S3Folder) -> list[str]:
    store: S3Store = s3_store(folder.access, folder.bucket)
    found = obstore.list(store, folder.key or None).collect()
    return sorted(str(each["path"]) for each in found)
