"""Networks and what runs them: engines, backbones, heads, checkpoints, and the weights that come with emobeam."""
