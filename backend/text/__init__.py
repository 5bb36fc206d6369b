"""What the tasks share about texts: words, tags, spans, conversations. Nothing here imports torch at the top."""
