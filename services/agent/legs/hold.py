"""How a leg tells the pipeline that its call is on hold."""

from dataclasses import dataclass

from pipecat.frames.frames import SystemFrame


@dataclass
class HoldFrame(SystemFrame):  # type: ignore[misc]  # pipecat is not followed by mypy
    """Pushed by a leg's input when one side holds the call, and when it is resumed.

    In between no audio comes in, and what is handed to the output is lost: speech has to wait.
    """

    held: bool = False
