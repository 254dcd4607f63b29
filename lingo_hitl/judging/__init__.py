"""Ratings by models, before people see the rows."""
