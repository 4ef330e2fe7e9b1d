"""What a plan does to Delta tables, with deltalake: no Spark session is needed to make or widen one."""

from __future__ import annotations

import json

from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError

from headgate.checkpoints.layout import table_path
from headgate.errors import PlanChangedError, ServiceError, UnavailableError
from headgate.tables.delta import answered_to_delta, is_table, open_table, storage_options
from headgate.tables.files import make_folder
from headgate.tables.place import Place
from headgate.topics.differences import Action

__all__ = ["TABLE_ACTIONS", "carry_out_table"]

TABLE_ACTIONS = ("create_table", "add_columns")


def carry_out_table(tables: Place, action: Action) -> None:
    """Create the table or add its columns. Raises PlanChangedError, ServiceError, and what
    `answered_to_delta` does where a store is away or denies."""
    path = table_path(tables, action.pipeline, action.arguments["table"])
    try:
        with answered_to_delta(path):
            if action.kind == "create_table":
                _create(path, action)
            else:
                schema = {"type": "struct", "fields": action.arguments["columns"]}
                open_table(path).alter.add_columns(list(Schema.from_json(json.dumps(schema)).fields))
    except CommitFailedError as error:
        raise PlanChangedError(
            f"{action.address}: {action.summary}: another writer was faster: {_first_line(error)}",
            help="run headgate apply again",
        ) from error
    except UnavailableError:
        raise
    except (DeltaError, OSError) as error:
        raise ServiceError(
            f"{action.address}: {action.summary}: {_first_line(error)}", help=f"look at {path}"
        ) from error


def _create(path: Place, action: Action) -> None:
    if is_table(path):
        raise PlanChangedError(f"{action.address} is there already", help="headgate plan shows what it is")
    make_folder(path, parents=True)
    DeltaTable.create(
        str(path),
        Schema.from_json(json.dumps(action.arguments["schema"])),
        partition_by=list(action.arguments["partition_by"]) or None,
        configuration=dict(action.arguments["properties"]),
        storage_options=storage_options(path),
        raise_if_key_not_exists=False,  # `headgate.…` says whose the table is; other readers ignore it
    )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
