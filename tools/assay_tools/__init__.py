"""What developers of a pipeline use: stages side by side, why, gates, links."""
