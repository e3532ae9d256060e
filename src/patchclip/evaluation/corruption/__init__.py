"""Common corruptions of images, 15 kinds in 5 severities, and their scores."""
