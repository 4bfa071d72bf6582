"""The domain in Mandarin: callers' wordings, facts and sentences. What requests mean is common to both languages."""
