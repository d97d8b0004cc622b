"""The ear: contenders play the same cues into the same virtual sound card, and what is missing when due is a glitch."""
