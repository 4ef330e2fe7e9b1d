"""Schemas of Avro and Protobuf sources: read from beside the contract, and held against its columns."""

from __future__ import annotations

import difflib
from pathlib import Path

from headgate.contract.document import Document, Key
from headgate.contract.model import Contract, RecordSchema, Source
from headgate.errors import Problem, UnavailableError

__all__ = ["MAX_BYTES", "frozen_columns", "with_schema_files", "with_texts"]

# A schema of a thousand fields is some 100 kB; with imports a descriptor set is a few times that.
MAX_BYTES = 2_097_152


def with_schema_files(contract: Contract, document: Document, path: Path) -> tuple[Contract, list[Problem]]:
    """The contract with the text of each schema file in it, and all problems with them."""
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    for name, source in contract.sources.items():
        schema = source.record_schema
        if schema is None or schema.file is None:
            continue
        text = _text_of(source, schema, document, ("sources", name, "schema"), path)
        if isinstance(text, Problem):
            problems.append(text)
        else:
            texts[name] = text
    contract = with_texts(contract, texts)
    for name in texts:
        problems += frozen_columns(name, contract.sources[name], document)
    return contract, sorted(problems, key=lambda each: (each.file, each.line, each.column))


def with_texts(contract: Contract, texts: dict[str, str]) -> Contract:
    """The contract with these texts frozen into its sources."""
    if not texts:
        return contract
    sources = dict(contract.sources)
    for name, text in texts.items():
        schema = sources[name].record_schema
        assert schema is not None, "only sources with a schema have a text"
        sources[name] = sources[name].model_copy(
            update={"record_schema": schema.model_copy(update={"text": text})}
        )
    return contract.model_copy(update={"sources": sources})


def frozen_columns(name: str, source: Source, document: Document) -> list[Problem]:
    """What the columns of a source have against its frozen schema."""
    from headgate.formats.binding import column_problems
    from headgate.formats.schema import schema_of
    from headgate.formats.shapes import SchemaProblem

    at: Key = ("sources", name)
    try:
        record = schema_of(source).record
    except SchemaProblem as problem:
        return [document.problem((*at, "schema"), problem.message, expected=problem.expected)]
    return [
        document.problem(
            (*at, "columns", each.index, each.key), each.message, expected=each.expected, help=each.help
        )
        for each in column_problems(record, source.columns)
    ]


def _text_of(source: Source, schema: RecordSchema, document: Document, at: Key, path: Path) -> str | Problem:
    from headgate.formats.shapes import SchemaProblem

    file = _file_of(schema, document, (*at, "file"), path)
    if isinstance(file, Problem):
        return file
    try:
        return _read(source, schema, file, path.parent)
    except SchemaProblem as problem:
        if problem.line == problem.column == 0:
            return document.problem((*at, "message"), problem.message, expected=problem.expected)
        name = str(Path(document.name).parent / str(schema.file))
        return Problem(name, problem.line, problem.column, problem.message, problem.expected)
    except UnavailableError as error:  # the compiler could not work
        return document.problem((*at, "file"), error.message, help=error.help)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return document.problem((*at, "file"), f"{schema.file} cannot be read: {reason}")


def _file_of(schema: RecordSchema, document: Document, at: Key, path: Path) -> Path | Problem:
    relative = Path(str(schema.file))
    if relative.is_absolute() or ".." in relative.parts:
        return document.problem(
            at, f"`{relative}` is not below the contract's folder", expected="a path relative to the contract"
        )
    file = path.parent / relative
    if not file.is_file():
        here = sorted(
            str(each.relative_to(path.parent))
            for each in path.parent.rglob("*")
            if each.suffix in {".avsc", ".proto", ".desc"}
        )
        close = difflib.get_close_matches(str(relative), here, n=1)
        return document.problem(
            at, f"there is no file {relative} beside the contract", expected="a schema file",
            help=f"did you mean `{close[0]}`?" if close else None,
        )  # fmt: skip
    if file.stat().st_size > MAX_BYTES:
        return document.problem(
            at, f"{relative} has {file.stat().st_size:,} bytes", expected=f"at most {MAX_BYTES:,}"
        )
    return file


def _read(source: Source, schema: RecordSchema, file: Path, folder: Path) -> str:
    """The frozen text of a schema file. Raises SchemaProblem; at 0:0 it is about the message's name."""
    if source.format == "avro":
        from headgate.formats.avro import avro_record, canonical_text, parse_avro

        text = file.read_text(encoding="utf-8")
        avro_record(parse_avro(text))
        return canonical_text(text)
    return _protobuf(schema, file, folder)


def _protobuf(schema: RecordSchema, file: Path, folder: Path) -> str:
    from headgate.formats.proto_compiler import compile_proto
    from headgate.formats.protobuf import descriptor_set_text, message_names
    from headgate.formats.shapes import SchemaProblem

    compiled = file.suffix == ".proto"
    text = compile_proto(file, folder) if compiled else descriptor_set_text(file.read_bytes())
    names = message_names(text)
    if schema.message not in names:
        close = difflib.get_close_matches(str(schema.message), names, n=1)
        known = f"did you mean `{close[0]}`?" if close else f"one of {', '.join(names) or '(none)'}"
        raise SchemaProblem(f"{schema.file} has no message `{schema.message}`", 0, 0, known)
    return text
