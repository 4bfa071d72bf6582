"""`python -m services.agent.cli personas`: personas of running agents, through the HTTP API; and `keys`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
import yaml

from services.agent.api.keys import Role, new_key
from services.agent.cli_http import DEFAULT, Api, ApiError

T = TypeVar("T")

personas = typer.Typer(help="Personas of running agents, through the HTTP API.", no_args_is_help=True)
keys = typer.Typer(help="Keys of the HTTP API.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="name of a persona", metavar="NAME")]
At = Annotated[int, typer.Option("--at", help="do it only if this is the newest version; 0: whichever is", min=0)]
File = Annotated[Path, typer.Argument(help="YAML, one document for each persona; - for standard input", metavar="FILE")]


@personas.callback()
def _where(
    context: typer.Context,
    api: Annotated[
        str,
        typer.Option(envvar="TRUNKLINE_API", help=f"URL of an agent; without it the demo's, else {DEFAULT}"),
    ] = "",
    key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="TRUNKLINE_API_KEY_FILE", help="file with the key; without it TRUNKLINE_API_KEY, else the demo's"
        ),
    ] = None,
) -> None:
    context.obj = lambda: Api(api, key_file)


@personas.command("list")
def list_personas(context: typer.Context) -> None:
    """Lists personas: name, version, where it came from, when and by whom it was changed, its numbers."""
    _print_rows(_ask(context, "GET", "/personas").json()["personas"])


@personas.command()
def show(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Option(help="an older one; 0: the newest", min=0)] = 0,
) -> None:
    """Shows one persona as YAML."""
    path = f"/personas/{name}/versions/{version}" if version else f"/personas/{name}"
    _print_yaml(_ask(context, "GET", path).json()["settings"])


@personas.command()
def history(context: typer.Context, name: Name) -> None:
    """Lists a persona's versions, the newest first."""
    _print_rows(_ask(context, "GET", f"/personas/{name}/history").json()["versions"])


@personas.command()
def diff(
    context: typer.Context,
    name: Name,
    old: Annotated[int, typer.Argument(help="a version", min=1, metavar="FROM")],
    new: Annotated[int, typer.Argument(help="another one", min=1, metavar="TO")],
) -> None:
    """Shows what changed between two versions."""
    print(_ask(context, "GET", f"/personas/{name}/diff", params={"from": old, "to": new}).text, end="")


@personas.command("import")
def import_file(context: typer.Context, file: File) -> None:
    """Creates and replaces personas from a file: all of them, or none."""
    headers = {"Content-Type": "application/yaml"}
    answer = _ask(context, "POST", "/personas:import", content=_read(file), headers=headers)
    made = answer.json()["personas"]
    _print_rows(made)
    if not made:
        print("nothing changes")


@personas.command()
def export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="of one persona; without it all of them", metavar="[NAME]")] = "",
) -> None:
    """Prints one persona, or all, as YAML that `import` takes."""
    print(_ask(context, "GET", f"/personas/{name}/yaml" if name else "/personas:export").text, end="")


@personas.command()
def rollback(
    context: typer.Context,
    name: Name,
    version: Annotated[int, typer.Argument(help="that is to come back", min=1, metavar="VERSION")],
    at: At = 0,
) -> None:
    """Makes a new version with an old one's settings; it also brings a deleted persona back."""
    path = f"/personas/{name}/rollback"
    _print_rows([_ask(context, "POST", path, json={"version": version}, headers=_if_match(at)).json()])


@personas.command()
def delete(context: typer.Context, name: Name, at: At = 0) -> None:
    """Deletes a persona; its versions stay."""
    _ask(context, "DELETE", f"/personas/{name}", headers=_if_match(at))


@personas.command()
def validate(context: typer.Context, file: File) -> None:
    """Checks a file's personas at an agent, and stores nothing."""
    try:
        documents = [document for document in yaml.safe_load_all(_read(file)) if document is not None]
    except yaml.YAMLError as error:
        _fail(f"{file}: not YAML: {' '.join(str(error).split())}")
    if not documents:
        _fail(f"{file}: no persona in it")
    for document in documents:
        content = json.dumps(document, default=str)  # YAML has dates
        headers = {"Content-Type": "application/json"}
        stored = _ask(context, "POST", "/personas:validate", content=content, headers=headers).json()["settings"]
        print(f"{stored['name']}: can be used")


@keys.command("new")
def new(
    name: Annotated[str, typer.Option(help="in logs and histories: lower case letters, digits, - and _")],
    role: Annotated[Role, typer.Option(help="what it opens")] = Role.VIEWER,
) -> None:
    """Makes a key. It is printed on the first line, and nowhere else; the second line is for --api-keys-file."""
    try:
        secret, line = new_key(name, role)
    except ValueError as error:
        _fail(str(error))
    print(secret)
    print(line)


def _if_match(at: int) -> dict[str, str]:
    return {"If-Match": f'"{at}"' if at else "*"}


def _ask(context: typer.Context, method: str, path: str, **more: Any) -> Any:
    connect: Callable[[], Api] = context.obj
    try:
        return connect().ask(method, path, **more)
    except ApiError as error:
        _fail(str(error))


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        _fail(f"{file}: {error.strerror}")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        words = [row["name"], str(row["version"]), "deleted" if row["deleted"] else row["source"]]
        words += [row["changed"][:19] + "Z", row["by"], *row["numbers"]]
        print("  ".join(words))


def _print_yaml(settings: dict[str, Any]) -> None:
    print(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100), end="")


def _fail(message: str) -> NoReturn:
    print(f"personas: error: {message}", file=sys.stderr, flush=True)
    raise typer.Exit(1)
