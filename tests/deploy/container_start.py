"""Becomes a container's process: `python container_start.py JSON`, in a mount namespace of its own, as root.

Builds a root file system in which all is read-only but what a service may write, then gives up root and starts the
command. JSON is what `tests.deploy.containers.Container.recipe` gives.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HOST = ("/usr", "/etc", "/proc", "/dev")  # the rest is the image's own


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def bind(source: str, target: Path, writable: bool = False) -> None:
    """Shows `source` at `target`, which is made where it is missing."""
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount("--bind", source, str(target))
    if not writable:
        mount("-o", "remount,bind,ro", str(target))


def build(root: Path, recipe: dict[str, object]) -> None:
    """The file system below `root`."""
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(root))
    for name in HOST:
        target = root / name[1:]
        target.mkdir()
        mount("--rbind", name, str(target))
    for target in root / "usr", root / "etc":
        mount("-o", "remount,bind,ro", str(target))
    for link in Path("/").iterdir():
        if link.is_symlink():  # /bin -> usr/bin, and so on
            (root / link.name).symlink_to(link.readlink())
        elif link.name in ("bin", "lib", "lib64", "sbin"):
            bind(str(link), root / link.name)
    binds: list[tuple[str, str, bool]] = recipe["binds"]  # type: ignore[assignment]
    for source, place, writable in binds:
        bind(source, root / place.lstrip("/"), writable)
    folders: dict[str, str] = recipe["tmpfs"]  # type: ignore[assignment]
    for place, options in folders.items():
        folder = root / place.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    if recipe["read_only"]:
        mount("-o", "remount,ro", str(root))


def main() -> None:
    recipe = json.loads(sys.argv[1])
    root = Path(recipe["root"])
    build(root, recipe)
    os.chroot(root)
    os.chdir(recipe["workdir"])
    os.execvpe("setpriv", ["setpriv", *recipe["privileges"], "--", *recipe["command"]], recipe["environment"])


if __name__ == "__main__":
    main()
