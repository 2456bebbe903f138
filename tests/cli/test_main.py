"""What the command line prints and returns: exit codes, messages, JSON."""

from __future__ import annotations

import errno
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edgec
from edgec.cli import main as cli
from edgec.cli.exit_codes import EXIT_CODES, in_a_line
from edgec.core import errors
from edgec.core.errors import DataError, EdgecError, Problem, StageError

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, standard output, standard error) of `edgec ARGUMENTS`."""

    def go(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgec", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as done:
            code = int(done.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return go


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """`edgec compare` raises `error`."""

    def compare(*_: object) -> None:
        raise error

    monkeypatch.setattr(edgec, "compare", compare, raising=False)


def test_every_error_has_an_exit_code_of_the_table() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgecError)
    ]
    assert {0} | {kind.exit_code for kind in kinds} == set(EXIT_CODES)


def test_the_table_of_exit_codes_is_the_one_of_the_documents(run: Run) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Exit codes: {in_a_line()}." in readme
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.M)] == list(EXIT_CODES)
    code, out, _ = run("--help")
    assert code == 0 and f"Exit codes: {in_a_line()}." in " ".join(out.split())


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StageError("stages.prune: nothing left"), 2, "StageError: stages.prune: nothing left\n"),
        (DataError([Problem("a.jpg", "is not an image", "remove it")]), 5, "DataError: a.jpg: is not an image; remove it\n"),
        (
            DataError([Problem(f"{i}.jpg", "is not an image") for i in range(201)]),
            5,
            "199.jpg: is not an image\n  and 1 more\n",
        ),
        (KeyboardInterrupt(), 130, "Interrupted; run the same command to resume\n"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), 7, "StorageError: runs/a"),
    ],
)  # fmt: skip
def test_an_error_is_a_message_and_an_exit_code(
    error: BaseException, code: int, text: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, error)
    got, out, err = run("compare", "a")
    assert (got, out) == (code, "") and text in err


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, KeyError("classes"))
    with pytest.raises(KeyError):
        run("compare", "a")


def test_wrong_usage_says_what_is_known(run: Run) -> None:
    code, _, err = run("compress", "detector", "--dri-run")
    assert code == 2 and "No such option: --dri-run" in err
    assert run("compres")[0] == 2


def test_recipes_are_listed_by_what_they_are_for(run: Run) -> None:
    code, out, _ = run("recipes")
    assert code == 0 and "language-server" not in out
    assert re.search(r"^detector\.yaml +The demo: ", out, re.M)


def test_the_schema_is_printed_and_written(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("schema")
    assert code == 0
    path = tmp_path / "edgec.schema.json"
    assert run("schema", "-o", path)[:2] == (0, f"wrote {path}\n")
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(out)
    assert json.loads(out)["properties"]["stages"]["properties"]["train"]


def test_models_are_listed_with_their_arguments(run: Run) -> None:
    code, out, _ = run("models")
    assert code == 0 and re.search(r"^imdn +\(", out, re.M) and "edgec:signs_yolov4_tiny.safetensors" in out


def test_a_new_recipe_is_written(run: Run, tmp_path: Path) -> None:
    code, _, err = run("init", "--data", tmp_path, "-o", tmp_path / "r.yaml")
    assert code == 5 and "holds no data of the formats voc, coco, yolo, images" in err


def test_evaluate_passes_on_what_is_allowed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def evaluate(*_: object, **options: object) -> dict[str, object]:
        asked.append(options)
        return {"network": edgec.Accuracy(values={"map50": 0.5}, counts={"images": 2})}

    monkeypatch.setattr(edgec, "evaluate", evaluate, raising=False)
    code, out, _ = run("evaluate", "folder", "--recipe", "r", "--runtime", "torch", "--allow-code", "--json")
    assert code == 0 and json.loads(out) == {"network": {"map50": 0.5, "images": 2}}
    assert asked[0]["allow_code"] is True
    run("evaluate", "folder", "--recipe", "r")
    assert asked[1]["allow_code"] is False
