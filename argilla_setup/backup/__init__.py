"""Snapshots of a home: taken, proven to restore, put back."""
