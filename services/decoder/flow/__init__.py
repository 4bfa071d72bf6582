"""Speech tokens to a mel spectrogram: token encoder, length regulator, conditional flow matching."""
