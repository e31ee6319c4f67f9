"""What the processes of a study share: its storage, the queue of its trials, their attributes."""
