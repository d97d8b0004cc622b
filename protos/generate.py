"""Generate ``samplecache/v1`` from the protos: ``python protos/generate.py [OUTPUT_DIR]``.

The output's directory is named as the proto package is, so that generated modules import each other unedited.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import grpc_tools.protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(output: Path) -> None:
    """Write messages, typed stubs and services under `output`; raise SystemExit if protoc finds fault."""
    protos = sorted((ROOT / "protos" / "samplecache" / "v1").glob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    code = grpc_tools.protoc.main(
        [
            "protoc",
            f"--proto_path={ROOT / 'protos'}",
            f"--proto_path={well_known}",
            f"--python_out={output}",
            f"--mypy_out=quiet:{output}",
            f"--grpc_python_out={output}",
            f"--mypy_grpc_out=quiet:{output}",
            *map(str, protos),
        ]
    )
    if code:
        raise SystemExit(code)
    # protoc makes an empty service module for every file; only the one with a service is wanted.
    for proto in protos:
        if "\nservice " not in proto.read_text():
            for suffix in ("_pb2_grpc.py", "_pb2_grpc.pyi"):
                (output / "samplecache" / "v1" / f"{proto.stem}{suffix}").unlink(missing_ok=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
