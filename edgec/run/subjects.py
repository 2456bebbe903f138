"""What a command's path means: artifacts, the folder of a run, the folder of a network at rest."""

from __future__ import annotations

from pathlib import Path

from edgec.core.errors import Problem, RecipeError


def artifacts_of(subject: Path) -> list[Path]:
    """The .onnx files that a path means: itself, or those of a run's folder. Raises RecipeError where there are none."""
    if subject.is_file():
        return [subject]
    for folder in (subject / "artifacts", subject / "rejected", subject):
        files = sorted(folder.glob("*.onnx")) if folder.is_dir() else []
        if files:
            return files
    raise RecipeError(
        [Problem(str(subject), "holds no .onnx file", "give an artifact, or the folder of a finished run")]
    )


def network_of(subject: Path) -> Path:
    """The folder of the network at rest that a path means: itself, or that of a run's folder."""
    for folder in (subject, subject / "artifacts" / "network", subject / "rejected" / "network"):
        if (folder / "network.json").is_file():
            return folder
    return subject
