"""The speaker encoder: a recording to the vector that gives the decoder its voice."""
