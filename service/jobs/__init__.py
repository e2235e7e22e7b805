"""Jobs: a queue, a worker that sees to one at a time, and the recipe of a retrain, which runs in a child process."""
