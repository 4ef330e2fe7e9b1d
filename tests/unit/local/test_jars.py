from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from headgate.errors import RefusedError
from headgate.local import jars
from headgate.local.jars import Jar, JarSet, fetch, ivy_module, missing, parse_lock

BODY = b"not really a jar"
SHA = hashlib.sha256(BODY).hexdigest()
JAR = Jar("org.example", "thing_2.13", "1.2", "", SHA)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for Maven Central: every jar that is asked for arrives with BODY as its content."""
    asked: list[str] = []

    def download(wanted: list[Jar], folder: Path) -> None:
        (folder / "jars").mkdir()
        for jar in wanted:
            asked.append(jar.coordinates)
            (folder / "jars" / jar.file_name).write_bytes(BODY)

    monkeypatch.setattr(jars, "_download", download)
    return asked


def test_a_lock_can_name_what_is_no_jar():
    (one,) = parse_lock((jars.LOCKS / "registry.lock").read_text(encoding="utf-8"))
    assert one.file_name == f"apicurio-registry-app-{one.version}-all.tar.gz"
    assert 'type="tar.gz" ext="tar.gz" m:classifier="all"' in ivy_module([one])


def test_a_lock_line_names_a_jar_with_or_without_a_classifier() -> None:
    text = f"# comment\n\norg.example:thing_2.13:1.2 {SHA}\na.b:c:1:linux-x86_64 {SHA}  # native\n"
    assert parse_lock(text) == (JAR, Jar("a.b", "c", "1", "linux-x86_64", SHA))


@pytest.mark.parametrize("line", ["a:b:1", "a:b 00", f"a:b:1:c:d {SHA}", f"a:b:1 {SHA[:-1]}"])
def test_a_damaged_lock_line_is_named_with_its_number(line: str) -> None:
    with pytest.raises(RefusedError, match="line 2"):
        parse_lock(f"# first\n{line}\n")


def test_the_committed_locks_name_every_jar_once_and_match_the_pinned_set() -> None:
    for name, lead in (("spark", "delta-spark_4.2_2.13-4.4.0.jar"), ("kafka", "kafka_2.13-4.3.1.jar")):
        locked = parse_lock((jars.LOCKS / f"{name}.lock").read_text(encoding="utf-8"))
        names = [jar.file_name for jar in locked]
        assert lead in names
        assert len(names) == len(set(names))


def test_no_client_of_a_newer_kafka_reaches_sparks_class_path() -> None:
    locked = parse_lock((jars.LOCKS / "spark.lock").read_text(encoding="utf-8"))
    assert [jar.version for jar in locked if jar.artifact == "kafka-clients"] == ["3.9.2"]


def test_the_ivy_module_follows_no_dependencies() -> None:
    text = ivy_module([JAR, replace(JAR, classifier="natives")])
    assert text.count('transitive="false"') == 2
    assert 'm:classifier="natives"' in text


def test_what_is_missing_is_fetched_and_nothing_the_second_time(tmp_path: Path, downloads: list[str]) -> None:
    jar_set = JarSet("x", tmp_path / "jars", (JAR,))
    assert fetch(jar_set) == [JAR]
    assert fetch(jar_set) == []
    assert downloads == ["org.example:thing_2.13:1.2"]
    assert missing(jar_set) == []


def test_a_jar_that_changed_on_disk_is_fetched_again(tmp_path: Path, downloads: list[str]) -> None:
    jar_set = JarSet("x", tmp_path, (JAR,))
    fetch(jar_set)
    (tmp_path / JAR.file_name).write_bytes(BODY + b"!")
    assert missing(jar_set) == [JAR]
    assert fetch(jar_set) == [JAR]
    assert (tmp_path / JAR.file_name).read_bytes() == BODY


def test_a_jar_with_another_hash_is_refused_and_not_kept(tmp_path: Path, downloads: list[str]) -> None:
    wrong = replace(JAR, sha256="0" * 64)
    with pytest.raises(RefusedError, match="not the jar that was locked"):
        fetch(JarSet("x", tmp_path, (wrong,)))
    assert not (tmp_path / JAR.file_name).exists()


def test_a_jar_of_an_older_lock_goes_and_a_strangers_jar_stays(tmp_path: Path, downloads: list[str]) -> None:
    old = replace(JAR, version="1.1")
    fetch(JarSet("x", tmp_path, (old,)))
    (tmp_path / "mine.jar").write_bytes(b"own")
    fetch(JarSet("x", tmp_path, (JAR,)))
    assert sorted(path.name for path in tmp_path.glob("*.jar")) == ["mine.jar", JAR.file_name]


def test_an_unreadable_stamp_only_costs_a_hashing(tmp_path: Path, downloads: list[str]) -> None:
    jar_set = JarSet("x", tmp_path, (JAR,))
    fetch(jar_set)
    (tmp_path / jars.STAMP).write_text("{", encoding="utf-8")
    assert missing(jar_set) == []
    assert fetch(jar_set) == []
    assert json.loads((tmp_path / jars.STAMP).read_text(encoding="utf-8"))
