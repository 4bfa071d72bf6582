// The stages of a turn, in order; times are milliseconds from the caller's end of speech (docs/telemetry.md).

export const STAGES = [
  ["turn_decided", "turn decided"],
  ["last_tokens", "last tokens"],
  ["first_lm_token", "LM token"],
  ["first_speech_token", "speech token"],
  ["first_pcm", "PCM"],
  ["first_packet", "packet"],
];
