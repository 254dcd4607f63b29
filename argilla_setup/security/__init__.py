"""What makes Argilla safe for a team: headers, a corrected web UI, limited signing in."""
