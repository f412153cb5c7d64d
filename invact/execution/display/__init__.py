"""What a person sees while runs are trained: stages, lines or bars, and the time left."""
