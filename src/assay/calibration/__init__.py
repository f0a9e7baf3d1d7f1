"""Turning logits into probabilities that mean what they say: temperature and Platt scaling."""
