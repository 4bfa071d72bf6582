"""What a Dockerfile says about the image that it makes, without making it."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FLAG = re.compile(r"^--([a-z-]+)(?:=(\S+))?\s+")


class DockerfileError(Exception):
    """It cannot be read; the message says why."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY --from=x a b` has the flag from=x and the value `a b`."""

    name: str
    flags: dict[str, str]
    value: str

    def words(self) -> list[str]:
        """Its value as an exec form or as words."""
        if self.value.startswith("["):
            words: list[str] = json.loads(self.value)
            return words
        return shlex.split(self.value)


@dataclass
class Stage:
    """From one FROM to the next."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True)
class Dockerfile:
    """Arguments in front of the first FROM, and the stages."""

    arguments: dict[str, str]
    stages: list[Stage]

    def image(self, target: str = "", **arguments: str) -> "Image":
        """The image of a target, by default of the last stage, with these build arguments."""
        given = {**self.arguments, **arguments}
        by_name = {stage.name: stage for stage in self.stages if stage.name}
        stage = by_name[target] if target else self.stages[-1]
        chain = [stage]
        while (base := Template(chain[-1].base).substitute(given)) in by_name:
            chain.append(by_name[base])
        image = Image(base)
        for link in reversed(chain):
            for instruction in link.instructions:
                image.apply(instruction, given)
        return image


@dataclass
class Image:
    """What an image has; `copied` are (sources in the repository, destination), `taken` those of another stage."""

    base: str
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": DEFAULT_PATH})
    labels: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    ports: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    copied: list[tuple[list[str], str]] = field(default_factory=list)
    taken: list[tuple[str, list[str], str]] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    def apply(self, instruction: Instruction, arguments: dict[str, str]) -> None:
        """What one instruction changes."""
        known = {**arguments, **self.environment}
        match instruction.name:
            case "ARG":
                name, _, default = instruction.value.partition("=")
                arguments.setdefault(name, default)
            case "ENV":
                self.environment |= dict(_pairs(instruction, known))
            case "LABEL":
                self.labels |= dict(_pairs(instruction, known))
            case "WORKDIR":
                self.workdir = instruction.value
            case "USER":
                self.user = instruction.value
            case "EXPOSE":
                self.ports += instruction.words()
            case "ENTRYPOINT":
                self.entrypoint = instruction.words()
            case "CMD":
                self.command = instruction.words()
            case "HEALTHCHECK":
                self.health = Instruction("CMD", {}, instruction.value.removeprefix("CMD").strip()).words()
            case "RUN":
                self.runs.append(instruction.value)
            case "COPY":
                *sources, to = instruction.words()
                destination = str(Path(self.workdir) / to) + ("/" if to.endswith("/") else "")
                if "from" in instruction.flags:
                    self.taken.append((instruction.flags["from"], sources, destination))
                else:
                    self.copied.append((sources, destination))
            case _:
                raise DockerfileError(f"{instruction.name} is not understood here")

    def files(self) -> dict[str, Path]:
        """Where what comes from the repository lies in the image: path in it to path in the repository."""
        found: dict[str, Path] = {}
        for sources, to in self.copied:
            into = to.endswith("/") or len(sources) > 1
            for source in sources:
                path = ROOT / source
                found[str(Path(to) / path.name) if into and path.is_file() else str(Path(to))] = path
        return found


def _pairs(instruction: Instruction, known: dict[str, str]) -> list[tuple[str, str]]:
    pairs = (word.partition("=") for word in shlex.split(instruction.value))
    return [(name, Template(value).safe_substitute(known)) for name, _, value in pairs]


def read(path: Path) -> Dockerfile:
    """A Dockerfile.

    Raises:
        DockerfileError: it has no FROM.
    """
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for text in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = text.partition(" ")
        flags: dict[str, str] = {}
        while match := _FLAG.match(rest := rest.strip()):
            flags[match[1]] = match[2] or ""
            rest = rest[match.end() :]
        instruction = Instruction(name.upper(), flags, rest)
        if instruction.name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages.append(Stage(alias.strip(), base.strip()))
        elif stages:
            stages[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            key, _, default = rest.partition("=")
            arguments[key] = default
    if not stages:
        raise DockerfileError(f"{path}: no FROM")
    return Dockerfile(arguments, stages)


def of_service(name: str) -> Dockerfile:
    """The Dockerfile of a service."""
    return read(FOLDER / f"{name}.Dockerfile")
