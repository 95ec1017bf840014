"""Studies on engines that run here: calibrate, predict, measure. ``make test-live`` runs them."""
