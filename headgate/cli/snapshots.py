"""`headgate snapshot take|list|show`, and `headgate operations`."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.output import out, print_json, print_table, progress, say
from headgate.cli.streams import Json, Pipeline, own_owner, read_settings
from headgate.errors import RefusedError

if TYPE_CHECKING:
    from headgate.checkpoints.snapshots import Snapshot

__all__ = ["register"]

Id = Annotated[str, typer.Argument(metavar="ID", help="From `headgate snapshot list`.")]


def register(app: typer.Typer) -> None:
    """Add this part's verbs."""
    group = typer.Typer(help="Copies of a stream's checkpoint.", no_args_is_help=True)
    group.command("take")(_take)
    group.command("list")(_list)
    group.command("show")(_show)
    app.add_typer(group, name="snapshot")
    app.command("operations")(_operations)


def _take(pipeline: Pipeline, as_json: Json = False) -> None:
    """Copy the checkpoint now, whether the stream runs or not; old copies beyond snapshots.keep go.

    `headgate restart PIPELINE --from snapshot` goes back to one. Exit codes: 0 done, 3 no checkpoint yet.
    """
    from headgate.streams.store import StateStore
    from headgate.streams.taking import take

    settings = read_settings()
    with closing(StateStore(settings.store_url)) as store, progress(f"copying the checkpoint of {pipeline}"):
        taken = take(settings, store, pipeline, actor=own_owner().label, reason="request")
    if as_json:
        print_json(_summary(taken))
    else:
        batches = ", ".join(f"{query} {batch}" for query, batch in taken.queries.items())
        out.print(f"{taken.id}: batches {batches}; {_size(taken)}", markup=False)


def _list(pipeline: Pipeline, as_json: Json = False) -> None:
    """The snapshots of a pipeline, the newest first."""
    from headgate.checkpoints.snapshots import find_snapshots

    found = find_snapshots(read_settings().snapshots_root, pipeline)
    if as_json:
        print_json([_summary(each) for each in found])
        return
    if not found:
        say(f"{pipeline} has no snapshot: headgate snapshot take {pipeline}")
        return
    columns = ("ID", "TAKEN", "WHY", "LINEAGE", "RECORDS BATCH", "SIZE")
    rows = [
        (each.id, _when(each.taken_at), each.reason, each.lineage, each.queries.get("records"), _size(each))
        for each in found
    ]
    print_table(columns, rows)


def _show(pipeline: Pipeline, id: Id, as_json: Json = False) -> None:
    """One snapshot, with every file of it read and compared. Exit codes: 0 good, 3 damaged, 4 not there."""
    from headgate.checkpoints.snapshots import read_snapshot, verify

    root = read_settings().snapshots_root
    found = read_snapshot(root, pipeline, id)
    with progress("reading its files"):
        problems = verify(root, found)
    if as_json:
        print_json({**found.to_json(), "problems": problems})
    else:
        for name, value in _summary(found).items():
            out.print(f"{name}: {value}", markup=False)
        out.print("files: good" if not problems else "files: damaged", markup=False)
    if problems:
        raise RefusedError(
            f"the snapshot {id} is damaged: {'; '.join(problems[:5])}",
            help=f"headgate snapshot list {pipeline}; headgate snapshot take {pipeline}",
        )


def _operations(pipeline: Pipeline, as_json: Json = False) -> None:
    """Snapshots and upgrades of a stream: what was asked for and what became of it."""
    from dataclasses import asdict

    from headgate.streams.operations import operations_of
    from headgate.streams.store import StateStore

    with closing(StateStore(read_settings().store_url)) as store:
        found = operations_of(store, pipeline)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    columns = ("AT", "WHAT", "NAME", "STATE", "BY", "DETAIL")
    rows = [(_when(o.changed_at), o.kind, o.name, o.state, o.actor, o.detail) for o in found]
    print_table(columns, rows)


def _summary(snapshot: Snapshot) -> dict[str, Any]:
    data = snapshot.to_json()
    del data["files"]
    return {**data, "bytes": sum(mark.size for mark in snapshot.files.values())}


def _size(snapshot: Snapshot) -> str:
    return f"{sum(mark.size for mark in snapshot.files.values()) / 1024:.0f} KiB"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
