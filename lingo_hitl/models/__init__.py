"""What turns text into text or numbers."""
