"""The Protobuf compiler, in a process of its own: for contracts that name a .proto file, and registries."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from headgate.errors import UnavailableError
from headgate.formats.shapes import SchemaProblem

__all__ = ["compile_proto"]

COMPILE_SECONDS = 60
_HELP = "see that there is memory, and room in the folder for temporary files; then try again"


def compile_proto(path: Path, folder: Path) -> str:
    """A .proto file, whose imports are below `folder`, as frozen text.

    Raises SchemaProblem, and UnavailableError where the compiler could not do its work: that says nothing of
    the schema.
    """
    try:
        return _compiled(path, folder)
    except subprocess.TimeoutExpired as error:
        message = f"the Protobuf compiler has not come to an end in {COMPILE_SECONDS} s"
        raise UnavailableError(message, help=_HELP) from error
    except UnavailableError:
        raise
    except OSError as error:
        raise UnavailableError(f"the Protobuf compiler cannot be run: {error}", help=_HELP) from error


def _compiled(path: Path, folder: Path) -> str:
    from importlib.resources import files

    well_known = str(files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory(prefix="headgate-proto-") as scratch:
        out = Path(scratch) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{well_known}"]
        command += ["--include_imports", f"--descriptor_set_out={out}", str(path)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=COMPILE_SECONDS)
        if done.returncode == 0:
            return base64.b64encode(out.read_bytes()).decode()
    raise _failure(done.returncode, done.stderr.decode(errors="replace"), path)


def _failure(status: int, said: str, path: Path) -> SchemaProblem | UnavailableError:
    lines = [line.strip() for line in said.splitlines() if line.strip() and "warning:" not in line]
    if status < 0:
        return UnavailableError(f"the Protobuf compiler was ended by signal {-status}", help=_HELP)
    if not any(re.search(r"\.proto\b", line) for line in lines):  # what it says of a schema names its file
        last = lines[-1] if lines else f"exit {status}"
        return UnavailableError(f"the Protobuf compiler failed: {last}", help=_HELP)
    for line in lines:
        found = re.match(r"(.+?):(\d+):(\d+): (.+)", line)
        if found:
            elsewhere = "" if found[1].endswith(path.name) else f"{found[1]}: "
            return SchemaProblem(elsewhere + found[4], int(found[2]), int(found[3]), "a .proto file")
    return SchemaProblem(lines[0], expected="a .proto file")
