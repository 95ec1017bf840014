"""Many scenarios: points of a space, run by workers, kept in a store; what is found from them."""
