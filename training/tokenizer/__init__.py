"""The speech tokenizer's training: Whisper's encoder made causal, with a codebook learnt through speech recognition."""
