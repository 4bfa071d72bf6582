"""Opus (RFC 6716) with its loss concealment, from the libopus that PyAV brings along.

PyAV and aiortc decode Opus by FFmpeg, which has no way to say that a packet is missing; libopus itself has. And they
encode by way of a filter graph, each with threads of its own, which stay until the garbage collector comes by.
"""

import ctypes
from ctypes.util import find_library
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]

RTP_CLOCK = 48_000  # of Opus in RTP, whatever the audio's rate (RFC 7587 section 4.1)
LONGEST_MS = 120  # a packet's longest duration (RFC 6716 section 3.2.5)
LARGEST_BYTES = 1275  # a frame's largest size (section 3.4)
VOIP = 2048  # opus_defines.h, and so are these
SET_BITRATE, SET_INBAND_FEC, SET_PACKET_LOSS_PERC = 4002, 4012, 4014


class OpusError(ValueError):
    """A payload that is no Opus packet, or PCM that becomes none."""


def _load() -> ctypes.CDLL:
    bundled = sorted((Path(av.__file__).parent.parent / "av.libs").glob("libopus-*.so*"))
    name = str(bundled[0]) if bundled else find_library("opus")
    if name is None:
        raise ImportError("libopus is missing: PyAV's wheel has it; with a PyAV built here, install libopus0")
    library = ctypes.CDLL(name)
    library.opus_decoder_create.argtypes = (ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
    library.opus_decoder_create.restype = ctypes.c_void_p
    library.opus_decoder_destroy.argtypes = (ctypes.c_void_p,)
    library.opus_decoder_destroy.restype = None
    library.opus_decode.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int32,
        ctypes.POINTER(ctypes.c_int16),
        ctypes.c_int,
        ctypes.c_int,
    )
    library.opus_decode.restype = ctypes.c_int
    library.opus_encoder_create.argtypes = (ctypes.c_int32, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
    library.opus_encoder_create.restype = ctypes.c_void_p
    library.opus_encoder_destroy.argtypes = (ctypes.c_void_p,)
    library.opus_encoder_destroy.restype = None
    library.opus_encoder_ctl.restype = ctypes.c_int  # takes any number of arguments: no types of them
    library.opus_encode.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int32,
    )
    library.opus_encode.restype = ctypes.c_int
    library.opus_packet_get_nb_samples.argtypes = (ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32)
    library.opus_packet_get_nb_samples.restype = ctypes.c_int
    library.opus_strerror.argtypes = (ctypes.c_int,)
    library.opus_strerror.restype = ctypes.c_char_p
    return library


_OPUS = _load()


def _checked(result: int, otherwise: str = "no Opus packet") -> int:
    if result < 0:
        raise OpusError(f"{otherwise}: {_OPUS.opus_strerror(result).decode()}")
    return result


def duration(payload: bytes) -> int:
    """How long a packet sounds, in ticks of the RTP clock.

    Raises:
        OpusError: it is no Opus packet.
    """
    return _checked(int(_OPUS.opus_packet_get_nb_samples(payload, len(payload), RTP_CLOCK)))


class OpusDecoder:
    """Decodes one stream to mono.

    Args:
        rate: of the PCM, hertz: 8000, 12000, 16000, 24000 or 48000.
    """

    def __init__(self, rate: int) -> None:
        error = ctypes.c_int()
        self._state: int | None = _OPUS.opus_decoder_create(rate, 1, ctypes.byref(error))
        if self._state is None or error.value:
            raise ValueError(f"Opus does not decode to {rate} Hz: 8000, 12000, 16000, 24000 or 48000 are allowed")
        self._rate = rate
        self._longest = rate * LONGEST_MS // 1000

    def __del__(self) -> None:
        state, self._state = getattr(self, "_state", None), None
        if state is not None:
            _OPUS.opus_decoder_destroy(state)

    def decode(self, payload: bytes) -> Pcm:
        """A packet's PCM.

        Raises:
            OpusError: it is no Opus packet.
        """
        return self._run(payload, self._longest, 0)

    def recover(self, following: bytes, ticks: int) -> Pcm:
        """What was lost right before `following`: from its forward error correction, else concealed.

        Args:
            ticks: of the RTP clock that are missing, a whole number of 2.5 ms.
        """
        return self._run(following, self._samples(ticks), 1)

    def conceal(self, ticks: int) -> Pcm:
        """A guess at what is missing after the last packet; it fades out when it goes on for long."""
        return self._run(None, self._samples(ticks), 0)

    def _samples(self, ticks: int) -> int:
        return ticks * self._rate // RTP_CLOCK

    def _run(self, payload: bytes | None, samples: int, fec: int) -> Pcm:
        pcm = np.empty(samples, np.int16)
        into = pcm.ctypes.data_as(ctypes.POINTER(ctypes.c_int16))
        size = len(payload) if payload is not None else 0
        return pcm[: _checked(int(_OPUS.opus_decode(self._state, payload, size, into, samples, fec)))]


class OpusEncoder:
    """Encodes one voice, with forward error correction for the losses that are expected.

    Args:
        rate: of the PCM, hertz: 8000, 12000, 16000, 24000 or 48000.
        bit_rate: bits a second, the error correction included.
        expected_loss: percent; it decides how much goes into error correction (RFC 7587 section 3.3).
    """

    def __init__(self, rate: int, bit_rate: int, expected_loss: int) -> None:
        error = ctypes.c_int()
        self._state: int | None = _OPUS.opus_encoder_create(rate, 1, VOIP, ctypes.byref(error))
        if self._state is None or error.value:
            raise ValueError(f"Opus does not encode {rate} Hz: 8000, 12000, 16000, 24000 or 48000 are allowed")
        for setting, value in ((SET_BITRATE, bit_rate), (SET_INBAND_FEC, 1), (SET_PACKET_LOSS_PERC, expected_loss)):
            done = _OPUS.opus_encoder_ctl(ctypes.c_void_p(self._state), setting, ctypes.c_int(value))
            _checked(int(done), f"{value} is not allowed")

    def __del__(self) -> None:
        state, self._state = getattr(self, "_state", None), None
        if state is not None:
            _OPUS.opus_encoder_destroy(state)

    def encode(self, pcm: bytes) -> bytes:
        """A packet of 16-bit mono PCM, which lasts 2.5, 5, 10, 20, 40 or 60 ms. Any thread may call it, one at a time.

        Raises:
            OpusError: it lasts as long as no packet does.
        """
        packet = ctypes.create_string_buffer(LARGEST_BYTES)
        size = int(_OPUS.opus_encode(self._state, pcm, len(pcm) // 2, packet, LARGEST_BYTES))
        _checked(size, f"no packet of {len(pcm) // 2} samples")
        return packet.raw[:size]
