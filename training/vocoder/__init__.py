"""The training of the vocoder: the agent's mel spectrogram to its waveform."""
