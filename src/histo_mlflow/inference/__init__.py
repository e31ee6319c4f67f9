"""A trained model at work: batch prediction, Kaggle submissions, a server with limits."""
