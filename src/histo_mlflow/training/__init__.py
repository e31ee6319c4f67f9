"""The step, the loop, the schedule and the ending of training; knows nothing of MLflow."""
