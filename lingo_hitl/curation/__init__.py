"""Which rows go on: filters and KoQuality sampling."""
