"""To the labelers and back: tasks, push, pull, consensus."""
