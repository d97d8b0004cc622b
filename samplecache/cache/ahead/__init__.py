"""What is brought in, or stays in, before anybody plays it: announced cues and triggers."""
