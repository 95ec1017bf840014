"""One replica: engine settings, the batch scheduler, the replica that runs it, and the slow reference of both."""
