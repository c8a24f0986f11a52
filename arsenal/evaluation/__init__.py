"""What a trained model is worth: answers and metrics over a set, plots, the report."""
