"""`package.json` of a converted artifact: what a runtime's files are, and what goes in and comes out.

`edgec.probe.packages` reads it too, which imports nothing of edgec.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edgec.core.files import write_atomic

NAME = "package.json"


class PackageFile(BaseModel):
    """`inputs` are the shapes of the golden input by name, `outputs` names in order. Keys of a newer edgec are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    runtime: str = ""
    file: str  # the main one, in the same folder
    precision: str = ""
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...] = ()
    source: str = ""  # name of the .onnx file

    def write(self, folder: Path) -> None:
        write_atomic(folder / NAME, self.model_dump_json(indent=1).encode())

    @classmethod
    def of(cls, folder: Path) -> PackageFile:
        """The one of a converted artifact. Raises OSError and pydantic.ValidationError where there is none."""
        return cls.model_validate_json((folder / NAME).read_bytes())
