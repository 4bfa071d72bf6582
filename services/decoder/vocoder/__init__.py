"""Mel spectrogram to waveform: F0 predictor, harmonic source, and a network that shapes the source."""
