"""The Protobuf compiler, in a process of its own: for contracts that name a .proto file, and registries."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from headgate.formats.shapes import SchemaProblem

__all__ = ["compile_proto"]

COMPILE_SECONDS = 60


def compile_proto(path: Path, folder: Path) -> str:
    """A .proto file, whose imports are below `folder`, as frozen text. Raises SchemaProblem."""
    from importlib.resources import files

    well_known = str(files("grpc_tools") / "_proto")
    with tempfile.TemporaryDirectory(prefix="headgate-proto-") as scratch:
        out = Path(scratch) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{well_known}"]
        command += ["--include_imports", f"--descriptor_set_out={out}", str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=COMPILE_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise SchemaProblem(f"the compiler has not come to an end in {COMPILE_SECONDS} s") from error
        if done.returncode == 0:
            return base64.b64encode(out.read_bytes()).decode()
    raise _compiler_problem(done.stderr, path)


def _compiler_problem(said: str, path: Path) -> SchemaProblem:
    lines = [line.strip() for line in said.splitlines() if line.strip() and "warning:" not in line]
    for line in lines:
        found = re.match(r"(.+?):(\d+):(\d+): (.+)", line)
        if found:
            elsewhere = "" if found[1].endswith(path.name) else f"{found[1]}: "
            return SchemaProblem(elsewhere + found[4], int(found[2]), int(found[3]), "a .proto file")
    return SchemaProblem(lines[0] if lines else "the compiler refuses it", expected="a .proto file")
