"""The language model's training: understanding, answers and their speech, in GLM-4-Voice's own prompt format."""
