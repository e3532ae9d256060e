"""What is run: CLIP towers and where their patches are dropped. The only folder that imports open_clip."""
