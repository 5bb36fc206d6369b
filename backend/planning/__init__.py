"""What a training takes before it is started: from the model's config.json and the job alone, without torch."""
