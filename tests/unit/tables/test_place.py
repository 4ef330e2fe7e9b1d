"""Where tables can be: what a setting may say, and what comes of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from headgate.errors import RefusedError, SettingsError
from headgate.settings import Settings, load_settings
from headgate.tables.access import S3Access
from headgate.tables.place import S3Folder, on_disk


def settings(home: Path, **variables: str) -> Settings:
    return load_settings(home, {f"HEADGATE_{name}": value for name, value in variables.items()})[0]


def test_a_path_is_a_folder_of_this_disk(tmp_path):
    assert settings(tmp_path).tables == tmp_path / "var" / "tables"
    assert settings(tmp_path, ROOTS_TABLES="lake").tables == tmp_path / "lake"


@pytest.mark.parametrize(
    ("address", "bucket", "key"),
    [
        ("s3://lake", "lake", ""),
        ("s3://lake/warehouse", "lake", "warehouse"),
        ("s3://my.lake-1/a/b_c/d.1", "my.lake-1", "a/b_c/d.1"),
    ],
)
def test_an_address_in_s3_is_a_bucket_and_a_prefix(tmp_path, address, bucket, key):
    tables = settings(tmp_path, ROOTS_TABLES=address).tables
    assert isinstance(tables, S3Folder)
    assert (tables.bucket, tables.key, str(tables)) == (bucket, key, address)


def test_names_are_put_below_it_as_below_a_folder(tmp_path):
    for address, key in (("s3://lake", "p/t"), ("s3://lake/a", "a/p/t")):
        table = settings(tmp_path, ROOTS_TABLES=address).tables / "p" / "t"
        assert isinstance(table, S3Folder)
        assert (table.key, table.name, str(table)) == (key, "t", f"s3://lake/{key}")


@pytest.mark.parametrize(
    "address",
    [
        "s3a://lake/a", "gs://lake", "S3://lake", "s3:/lake/a", "s3:lake", "file:///tmp/x", "s3://", "s3://lake/",
        "s3://lake//a", "s3://lake/../a", "s3://lake/a?x=1", "s3://key:secret@lake/a", "s3://La_ke",
        "s3://lake/a b", "s3://lake/a=1",
    ],
)  # fmt: skip
def test_what_is_neither_is_refused_and_makes_no_folder_of_that_name(tmp_path, address):
    with pytest.raises(SettingsError, match=r"roots\.tables .*expected"):
        settings(tmp_path, ROOTS_TABLES=address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["STATE", "CHECKPOINTS", "SNAPSHOTS"])
def test_only_tables_can_be_on_s3(tmp_path, root):
    with pytest.raises(SettingsError, match=r"only roots\.tables may be on S3"):
        settings(tmp_path, **{f"ROOTS_{root}": "s3://lake/a"})


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"S3_ENDPOINT": "http://127.0.0.1:9000"}, "allow_http = true"),
        ({"S3_ENDPOINT": "127.0.0.1:9000"}, "is not a URL"),
        ({"S3_ENDPOINT": "https://key:secret@store"}, "credentials go to s3.access_key"),
        ({"S3_ACCESS_KEY": "env:A"}, "both access_key and secret_key"),
        ({"S3_SESSION_TOKEN": "env:A"}, "beside a session_token"),
        ({"S3_REGION": "eu central"}, "s3.region"),
        ({"S3_ACCESS_KEY": "AKIAREALKEY", "S3_SECRET_KEY": "env:B"}, "a value in a secret's place"),
    ],
)
def test_a_store_that_cannot_be_meant_is_refused_without_showing_what_may_be_secret(
    tmp_path, variables, message
):
    with pytest.raises(SettingsError, match=message) as caught:
        settings(tmp_path, **variables)
    assert "AKIAREALKEY" not in str(caught.value)
    assert "key:secret" not in str(caught.value)


def test_credentials_are_read_where_they_are_used_and_stand_in_nothing_that_is_sent(tmp_path, monkeypatch):
    (tmp_path / "var" / "secrets").mkdir(parents=True)
    (tmp_path / "var" / "secrets" / "s3").write_text("hidden-secret\n")
    monkeypatch.setenv("LAKE_KEY", "hidden-key")
    tables = settings(
        tmp_path,
        ROOTS_TABLES="s3://lake",
        S3_ENDPOINT="http://127.0.0.1:9000",
        S3_ALLOW_HTTP="true",
        S3_ACCESS_KEY="env:LAKE_KEY",
        S3_SECRET_KEY="file:{state}/secrets/s3",
    ).tables
    assert isinstance(tables, S3Folder)
    sent = pickle.dumps(tables)
    assert b"hidden" not in sent
    assert "hidden" not in repr(tables)
    options = pickle.loads(sent).access.for_deltalake()
    assert (options["aws_access_key_id"], options["aws_secret_access_key"]) == ("hidden-key", "hidden-secret")
    assert options["aws_conditional_put"] == "etag"
    assert options["aws_allow_http"] == "true"


def test_a_credential_that_is_not_there_is_told_by_its_reference(tmp_path, monkeypatch):
    monkeypatch.delenv("LAKE_KEY", raising=False)
    access = S3Access("us-east-1", tmp_path, access_key="env:LAKE_KEY", secret_key="env:LAKE_KEY")
    with pytest.raises(SettingsError, match="no variable LAKE_KEY"):
        access.for_deltalake()


def test_locks_that_only_some_writers_look_at_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_S3_LOCKING_PROVIDER", "dynamodb")
    with pytest.raises(SettingsError, match="conditional put alone"):
        S3Access("us-east-1", tmp_path).for_deltalake()


def test_what_needs_a_disk_is_refused_on_s3(tmp_path):
    assert on_disk(tmp_path, "a replay") == tmp_path
    with pytest.raises(
        RefusedError, match="a replay cannot be had of tables on S3, and these are at s3://lake"
    ):
        on_disk(settings(tmp_path, ROOTS_TABLES="s3://lake").tables, "a replay")


@pytest.mark.parametrize(
    ("keys", "variables", "why"),
    [
        (True, {"AWS_SESSION_TOKEN": "other"}, "without a session_token"),
        (False, {"AWS_PROFILE": "lake"}, "know profiles"),
        (True, {"AWS_S3_LOCKING_PROVIDER": "dynamodb"}, "conditional put alone"),
        (True, {"AWS_ENDPOINT": "http://127.0.0.1:1"}, "AWS_ENDPOINT is set, and .* names no endpoint"),
        (True, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "AWS_ENDPOINT_URL is set"),
        (True, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, "AWS_ENDPOINT_URL_S3 is set"),
    ],
)
def test_what_not_all_libraries_heed_is_refused_at_each_of_their_doors(
    tmp_path, monkeypatch, keys, variables, why
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LAKE", "a")
    references = {"access_key": "env:LAKE", "secret_key": "env:LAKE"} if keys else {}
    access = S3Access("us-east-1", tmp_path, **references)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for door in (access.for_deltalake, access.for_objects, access.for_arrow):
        with pytest.raises(SettingsError, match=why):
            door()


def test_a_profile_beside_keys_and_a_token_beside_its_reference_do_no_harm(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "lake")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    S3Access("us-east-1", tmp_path).for_deltalake()
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    own = "env:AWS_SESSION_TOKEN"
    assert S3Access("us-east-1", tmp_path, None, own, own, own).for_deltalake()["aws_session_token"] == "t"
