"""What makes the borders of label maps follow the image: one file a method, none of them trained."""
