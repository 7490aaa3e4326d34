"""Features of users, items and their pairs, fitted on the training side of a store."""
