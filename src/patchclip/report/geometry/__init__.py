"""How the embeddings of a model lie, as one page with pictures: `patchclip geometry`."""
