"""PROJECT: a model, a loss and data of one's own, trained by arsenal."""
