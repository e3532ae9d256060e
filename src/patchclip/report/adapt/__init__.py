"""The page of an adaptation."""
