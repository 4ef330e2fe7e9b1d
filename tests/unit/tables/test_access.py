"""What the environment says of AWS beside the settings, and credentials that change under a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from s3_answers import Store

from headgate.local.ports import free_port
from headgate.tables.access import S3Access, s3_store
from headgate.tables.conditional import require_conditional_put
from headgate.tables.files import files_in, open_output

ENDPOINTS = ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_objects_go_to_the_store_of_the_settings_whatever_the_environment_names(
    store: Store, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    answers, folder = store
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    require_conditional_put(folder)
    output = open_output(folder / "a")
    output.write(b"b")
    output.close()
    assert list(answers.objects) == ["tables/a"]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_tables_are_looked_for_in_the_store_of_the_settings_whatever_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("LAKE", "a")
    own, other = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    monkeypatch.setenv(name, other)
    options = S3Access("us-east-1", tmp_path, own, "env:LAKE", "env:LAKE").for_deltalake()
    with pytest.raises(OSError, match=own.rpartition(":")[2]) as caught:
        DeltaTable("s3://lake/t", storage_options={**options, "max_retries": "0"})
    assert other not in str(caught.value)


def test_a_store_is_tried_and_written_with_conditional_put_whatever_the_environment_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, folder = store
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    require_conditional_put(folder)
    assert answers.objects == {}


def test_what_a_reference_says_anew_is_used_from_then_on_and_one_client_serves_until_then(
    store: Store, tmp_path: Path
) -> None:
    answers, folder = store
    (tmp_path / "key").write_text("AKIAFIRST")
    access = S3Access("us-east-1", tmp_path, folder.access.endpoint, "file:key", "env:LAKE_SECRET")
    folder = type(folder)(access, folder.bucket, folder.key)
    files_in(folder, "*")
    assert s3_store(access, "lake") is s3_store(access, "lake")
    (tmp_path / "key").write_text("AKIASECOND")
    files_in(folder, "*")
    assert answers.keys == ["AKIAFIRST", "AKIASECOND"]
