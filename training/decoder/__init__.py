"""The training of the flow: speech tokens of the agent's voice to its mel spectrogram."""
